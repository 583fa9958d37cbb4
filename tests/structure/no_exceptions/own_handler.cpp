// A program compiled with -fno-exceptions replaces the error handler (see handler.cpp) and makes a mistake.

#include <moe/moe.hpp>

static_assert(MOE_EXCEPTIONS == 0);

int main() {
    float data[6] = {};
    return moe::view(data, 2, 3, 2).rows() == 2 ? 1 : 3;  // a stride of 2 for 3 columns: never returns
}
