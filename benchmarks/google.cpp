#include "google.hpp"

#include <string_view>

#include <benchmark/benchmark.h>

#include <moe/core/error.hpp>

namespace bench {

namespace {

class QuietReporter final : public benchmark::BenchmarkReporter {
public:
    bool ReportContext(const Context&) override { return true; }
    void ReportRuns(const std::vector<Run>&) override {}
};

}  // namespace

void initialize_google(const std::string& program, const std::vector<std::string>& options) {
    std::vector<std::string> arguments{program};
    arguments.insert(arguments.end(), options.begin(), options.end());
    std::vector<char*> pointers;
    for (std::string& argument : arguments) {
        pointers.push_back(argument.data());
    }
    int count = static_cast<int>(pointers.size());
    pointers.push_back(nullptr);
    benchmark::Initialize(&count, pointers.data());
    moe::ensure(count == 1, moe::ErrorCode::range, "Google Benchmark has no option '",
                std::string_view(count > 1 ? pointers[1] : ""), "'");
}

void run_google() {
    QuietReporter quiet;
    benchmark::RunSpecifiedBenchmarks(&quiet);
    benchmark::Shutdown();
}

}  // namespace bench
