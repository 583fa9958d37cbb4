#include "noise.hpp"

namespace bench {

std::string NoiseWatch::note(const Statistics& seconds, const Statistics& fma, const Statistics& read) const {
    const auto two_digits = [](double value) { return std::to_string(value).substr(0, 4); };
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin_;
    const ProcessorTime now = processor_time();
    const double others = ((now.all - before_.all) - (now.own - before_.own)) / wall.count();
    std::string text;
    if (others > 0.1) {
        text += "other programs used " + two_digits(others) + " processors; ";
    }
    constexpr double spread = 1.5;
    if (seconds.p95 > spread * seconds.min) {
        text += "noisy, p95/min is " + two_digits(seconds.p95 / seconds.min) + "; ";
    }
    constexpr double probe_spread = 1.25;  // a limit that is often passed was not one
    if (fma.p95 > probe_spread * fma.median || read.p95 > probe_spread * read.median) {
        text += "noisy probes, p95/median of FMA is " + two_digits(fma.p95 / fma.median) + ", of memory read " +
                two_digits(read.p95 / read.median) + "; ";
    }
    return text;
}

}  // namespace bench
