#include <moe/kernels/simd.hpp>

int main() {
    float values[moe::lanes<float>];
    moe::store(values, moe::Vector<float>(2.0F));
    return values[0] > 1.9F && values[0] < 2.1F ? 0 : 1;
}
