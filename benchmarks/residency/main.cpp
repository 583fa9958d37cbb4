// More experts than memory: a layer over a mapped file, part of which is not in memory, with and without an
// ExpertResidency. benchmarks/README.md explains what it prints.
#include <cstddef>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../../examples/command_line/number_option.hpp"
#include "../threads.hpp"
#include "experts_file.hpp"
#include "measure.hpp"

namespace {

struct Options {
    bench::ExpertsFile::Sizes sizes{};
    bench::ResidencyCase the_case{};
    std::vector<std::size_t> tokens{1, 8, 64, 512};
    std::size_t threads = bench::default_threads();
    std::size_t stays = 50;
    std::size_t wave_megabytes = 0;
    std::string folder = ".";
    bool together = false;
    bool help = false;
};

void describe(command_line::Parser& parser, Options& options) {
    using command_line::add_number;
    add_number<std::size_t>(parser, "experts", options.sizes.n_experts, 1, 4096, "in the file");
    add_number<std::size_t>(parser, "d-model", options.sizes.d_model, 1, 65536, "of each");
    add_number<std::size_t>(parser, "d-ff", options.sizes.d_ff, 1, 65536, "of each");
    add_number<std::size_t>(parser, "top-k", options.the_case.top_k, 1, 4096, "experts of a token");
    parser.option(
        "tokens", "N,...",
        [&options](const std::string& text) {
            options.tokens = command_line::parse_list<std::size_t>(text, options.tokens, [](std::string_view one) {
                return command_line::parse_number<std::size_t>("--tokens", one, 1, 65536);
            });
        },
        "a row each (default: 1,8,64,512)");
    add_number<std::size_t>(parser, "stays", options.stays, 0, 100,
                            "percent of the experts that may stay in memory, those that were used last");
    add_number<std::size_t>(parser, "wave-mb", options.wave_megabytes, 0, 1'000'000,
                            "megabytes of experts computed together (default: half of what may stay)");
    add_number<std::size_t>(parser, "calls", options.the_case.calls, 1, 10'000, "of each arm");
    add_number<std::size_t>(parser, "threads", options.threads, 1, bench::most_threads(), "of each arm");
    parser.option(
        "dir", "DIR", [&options](const std::string& text) { options.folder = text; },
        "where the file is written, on the disk that is measured (default: here)");
    parser.flag("together", options.together, "experts lie together in the file, not apart");
    parser.flag("limited", options.the_case.limited,
                "throw nothing out: the system limits the memory of this process (a control group, say)");
    parser.flag("help", options.help, "print this");
}

constexpr const char* head =
    "usage: moe_residency [options]\n"
    "Times a layer whose experts are more than memory: from the mapping as it is touched, and with an "
    "ExpertResidency.\n";

void run(const Options& options) {
    const bench::Threads threads(options.threads);
    const bench::ExpertsFile file(options.folder, options.sizes,
                                  options.together ? moe::PackedOrder::together : moe::PackedOrder::apart, threads);
    const std::size_t bytes = file.ranges().bytes(0);
    bench::ResidencyCase the_case = options.the_case;
    the_case.resident = options.sizes.n_experts * options.stays / 100;
    the_case.wave_bytes =
        options.wave_megabytes == 0 ? the_case.resident * bytes / 2 : options.wave_megabytes * 1'000'000;
    std::printf(
        "%zu int4 experts of %.2f MB %s, %zu of which stay in memory; top %zu, %zu threads, medians of %zu calls\n\n",
        options.sizes.n_experts, static_cast<double>(bytes) / 1e6, options.together ? "together" : "apart",
        the_case.resident, the_case.top_k, options.threads, the_case.calls);
    std::printf("%6s %8s %8s %12s %12s %7s   %12s %12s %7s  %s\n", "tokens", "experts", "missing", "plain tok/s",
                "with tok/s", "ratio", "all in: plain", "with", "ratio", "bits");
    for (const std::size_t tokens : options.tokens) {
        the_case.tokens = tokens;
        const bench::ResidencyRow row = bench::measure_residency(file, threads, the_case);
        const auto n = static_cast<double>(tokens);
        const auto speed = [n](double seconds) { return seconds > 0 ? n / seconds : 0.0; };
        std::printf("%6zu %8.1f %8.1f %12.1f %12.1f %6.2fx   %12.1f %12.1f %6.2fx  %s\n", tokens, row.experts,
                    row.missing, speed(row.plain), speed(row.brought), row.plain / row.brought,
                    speed(row.plain_in_memory), speed(row.brought_in_memory),
                    row.brought_in_memory > 0 ? row.plain_in_memory / row.brought_in_memory : 0.0,
                    row.same_bits ? "equal" : "DIFFER");
        std::fflush(stdout);
        moe::ensure(row.same_bits, moe::ErrorCode::state, "the outputs differ");
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        Options options;
        command_line::Parser parser(head);
        describe(parser, options);
        parser.parse(std::span<const char* const>(argv, static_cast<std::size_t>(argc)).subspan(1));
        if (options.help) {
            std::fputs(parser.help().c_str(), stdout);
            return 0;
        }
        moe::ensure(options.the_case.top_k <= options.sizes.n_experts, moe::ErrorCode::range, "--top-k is ",
                    options.the_case.top_k, ", there are ", options.sizes.n_experts, " experts");
        run(options);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "moe_residency: %s\n", error.what());
        return 1;
    }
}
