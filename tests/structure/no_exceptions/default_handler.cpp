// Without a handler of its own a program is aborted at the first mistake, and nothing is printed. A handler of SIGABRT
// can read what it was.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <moe/moe.hpp>

namespace {

extern "C" void on_abort(int) {
    const bool names_values = std::strstr(moe::last_error(), "the row stride 2") != nullptr &&
                              std::strstr(moe::last_error(), "3 columns") != nullptr;
    std::_Exit(names_values && std::strcmp(moe::last_error(), moe_last_error) == 0 ? 0 : 2);
}

}  // namespace

int main(int argc, char**) {
    if (std::strlen(moe::last_error()) != 0) {
        return 3;
    }
    if (argc > 1) {
        std::signal(SIGABRT, on_abort);
    }
    float data[6] = {};
    return moe::view(data, 2, 3, 2).rows() == 2 ? 4 : 5;  // a stride of 2 for 3 columns: never returns
}
