// consumer [level]: says which level computed what.

#include <array>
#include <cstdio>
#include <exception>

#include "dot.hpp"

int main(int argc, char** argv) {
    std::array<float, 101> a;
    std::array<float, 101> b;
    a.fill(2.0F);
    b.fill(0.5F);
    try {
        const std::string wanted = argc > 1 ? argv[1] : "";
        const Dot result = dot.at(wanted)(a.data(), b.data(), a.size());
        std::printf("level: %s, instruction set: %s, result: %g\n",
                    std::string(moe::level_name(dot.level_called(wanted))).c_str(), result.instruction_set.c_str(),
                    static_cast<double>(result.value));
        return result.value > 100.9F && result.value < 101.1F ? 0 : 1;
    } catch (const std::exception& error) {
        std::printf("%s\n", error.what());
        return 2;
    }
}
