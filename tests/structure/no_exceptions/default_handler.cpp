// Without a handler of its own a program is aborted at the first mistake; the CTest expects that.

#include <moe/moe.hpp>

int main() {
    float data[6] = {};
    return moe::view(data, 2, 3, 2).rows() == 2 ? 0 : 1;  // a stride of 2 for 3 columns: never returns
}
