// Prints the instruction set and the integer kernel it was compiled for. Status 1 if a result is wrong.

#include "moe/kernels/quantized_tile.hpp"
#include "suites.hpp"

int main() {
    neon::Verdict verdict;
    neon::check_tiles(verdict);
    neon::check_layers(verdict);
    std::printf("%s, %s: %d checks, %d failures\n", moe::isa_name(), moe::arch::IntegerLanes::name, verdict.checks(),
                verdict.failures());
    return verdict.checks() > 0 && verdict.failures() == 0 ? 0 : 1;
}
