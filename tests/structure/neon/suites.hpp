#pragma once

#include <cstdio>
#include <string>

/// The kernels checked without a test framework, so that a cross compiler needs none.
namespace neon {

/// Counts what was checked, and prints what is wrong.
class Verdict {
public:
    void check(bool holds, const std::string& what) {
        ++checks_;
        if (!holds) {
            ++failures_;
            std::printf("FAILED: %s\n", what.c_str());
        }
    }
    [[nodiscard]] int checks() const { return checks_; }
    [[nodiscard]] int failures() const { return failures_; }

private:
    int checks_ = 0;
    int failures_ = 0;
};

void check_tiles(Verdict& verdict);   ///< the bits of the documented orders of summation
void check_layers(Verdict& verdict);  ///< packed layers against the definition in double

}  // namespace neon
