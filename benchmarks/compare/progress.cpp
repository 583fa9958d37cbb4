#include "progress.hpp"

#include <algorithm>
#include <cstdio>

#include <unistd.h>

#include "../formatted.hpp"

namespace compare {

namespace {

using Seconds = std::chrono::duration<double>;

}  // namespace

Progress::Progress(double total)
    : total_(total), terminal_(isatty(STDERR_FILENO) != 0), start_(std::chrono::steady_clock::now()) {}

Progress::~Progress() {
    if (terminal_) {
        std::fputs("\r\033[K", stderr);
    }
}

void Progress::begin(const std::string& part, const std::string& detail) {
    const bool changed = part != part_;
    part_ = part;
    detail_ = detail;
    if (terminal_ || changed) {
        print();
    }
}

void Progress::advance(double work) {
    done_ += work;
    const auto now = std::chrono::steady_clock::now();
    if (terminal_ && now - printed_ > std::chrono::milliseconds(200)) {
        print();
    }
}

void Progress::print() {
    const auto now = std::chrono::steady_clock::now();
    printed_ = now;
    const double part = std::clamp(done_ / total_, 0.0, 1.0);
    std::string line = bench::formatted("%3.0f%%  %s", 100 * part, part_.c_str());
    if (terminal_ && !detail_.empty()) {
        line += ": " + detail_;
    }
    if (part > 0.02) {  // before that nobody knows
        const double left = Seconds(now - start_).count() * (1 - part) / part;
        line += bench::formatted(", %.0f s left", left);
    }
    std::fprintf(stderr, terminal_ ? "\r\033[K%s" : "%s\n", line.c_str());
    std::fflush(stderr);
}

}  // namespace compare
