#include "machine.hpp"

#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>

#include <sys/resource.h>
#include <unistd.h>

#include <moe/kernels/simd.hpp>
#include <moe/version.hpp>

#include "memory.hpp"
#if MOE_BENCH_EIGEN
#include "arms/eigen_arm.hpp"
#endif
#if MOE_BENCH_ONEDNN
#include "arms/onednn_arm.hpp"
#endif

namespace bench {

namespace {

std::string processor_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("model name")) {
            return line.substr(std::min(line.size(), line.find(':') + 2));
        }
    }
    return "unknown";
}

std::string first_word_of(const std::string& path) {
    std::ifstream file(path);
    std::string word;
    file >> word;
    return word;
}

/// "L1 Data 48K, L1 Instruction 64K, L2 Unified 2048K, ..."
std::string caches() {
    std::string text;
    for (int index = 0; index < 8; ++index) {
        const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
        const std::string size = first_word_of(folder + "size");
        if (!size.empty()) {
            text += (text.empty() ? "L" : ", L") + first_word_of(folder + "level") + " " +
                    first_word_of(folder + "type") + " " + size;
        }
    }
    return text.empty() ? "unknown" : text;
}

std::string megabytes(std::size_t bytes) { return std::to_string(bytes / 1'000'000) + " MB"; }

std::string dotted(std::initializer_list<int> parts) {
    std::string text;
    for (const int part : parts) {
        text += (text.empty() ? "" : ".") + std::to_string(part);
    }
    return text;
}

double seconds(const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

}  // namespace

std::vector<std::pair<std::string, std::string>> machine_facts() {
    return {
        {"cpu", processor_name()}, {"cores", std::to_string(std::thread::hardware_concurrency())}, {"caches", caches()},
            {"memory", megabytes(total_memory())}, {"memory_available", megabytes(available_memory())},
            {"governor", first_word_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")},
            {"huge_pages", first_word_of("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")},
            {"compiler", MOE_BENCH_COMPILER}, {"flags", MOE_BENCH_FLAGS}, {"isa", moe::isa_name()},
            {"moe", dotted({MOE_VERSION_MAJOR, MOE_VERSION_MINOR, MOE_VERSION_PATCH})},
            {"xsimd", dotted({XSIMD_VERSION_MAJOR, XSIMD_VERSION_MINOR, XSIMD_VERSION_PATCH})},
#if MOE_BENCH_EIGEN
            {"eigen", eigen_version()},
#endif
#if MOE_BENCH_ONEDNN
            {"onednn", onednn_version()},
#endif
            {"google_benchmark", MOE_BENCH_GOOGLE_VERSION},
    };
}

ProcessorTime processor_time() {
    std::ifstream file("/proc/stat");
    std::string name;
    double user = 0;
    double nice = 0;
    double system = 0;
    if (!(file >> name >> user >> nice >> system)) {
        return {};
    }
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return {(user + nice + system) / static_cast<double>(sysconf(_SC_CLK_TCK)),
            seconds(usage.ru_utime) + seconds(usage.ru_stime)};
}

}  // namespace bench
