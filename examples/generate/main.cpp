// Checks a Mixtral model against stored values, then continues a text with it. The MoE blocks are the library's; all
// else, from the embedding to the sampling, is in this folder.

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"
#include "gguf_model.hpp"
#include "load_chart.hpp"
#include "model.hpp"
#include "naive_moe.hpp"
#include "options.hpp"
#include "text.hpp"

namespace generate {
namespace {

const char* verdict(bool passed) { return passed ? "ok" : "FAILED"; }

/// Prints what was found; true when all of it is right.
bool report(const CheckResult& result) {
    std::printf("checks against the stored float64 values\n");
    std::printf("  logits of %3zu prompt bytes    largest difference %.1e   allowed %.0e   %s\n", result.prompt_tokens,
                result.logit_error, logit_tolerance, verdict(logits_pass(result)));
    std::printf("  greedy text                   %zu of %zu bytes equal                     %s\n",
                result.greedy_correct, result.greedy_tokens, verdict(greedy_passes(result)));
    std::printf("  NLL of %3zu bytes              %.6f, stored %.6f       allowed %.0e   %s\n\n", result.text_tokens,
                result.nll, result.nll_reference, nll_tolerance, verdict(nll_passes(result)));
    return logits_pass(result) && greedy_passes(result) && nll_passes(result);
}

void print_speed(const char* name, const Speed& speed) {
    if (speed.tokens > 0) {
        std::printf("  %-8s %4zu tokens %10.0f tokens/s\n", name, speed.tokens,
                    static_cast<double>(speed.tokens) / speed.seconds);
    }
}

void print_comparison(const MoESpeed& speed) {
    std::printf("  MoE blocks alone, %3zu token%s at once %9.0f tokens/s, %.1f times the %.0f of a naive Eigen loop\n",
                speed.tokens, speed.tokens == 1 ? " " : "s", speed.library, speed.library / speed.naive, speed.naive);
}

/// Positions to look back at.
std::size_t context_of(const Options& options, const Config& config) {
    constexpr std::ptrdiff_t learned = 256;  // by tiny-mixtral, which writes nonsense beyond them
    moe::ensure(std::cmp_less_equal(options.context, config.max_positions), moe::ErrorCode::range, "--context ",
                options.context, " exceeds the ", config.max_positions, " positions of the model");
    return static_cast<std::size_t>(options.context != 0 ? options.context : std::min(learned, config.max_positions));
}

void print_loads_and_speed(const std::vector<LoadCounter>& counters, const CheckResult& checks, const Speed& decode,
                           const Threads& threads) {
    std::printf("expert load, %% of each layer's choices\n%s\n", load_chart(counters).c_str());
    std::printf("speed on %zu thread%s\n", threads.concurrency(), threads.concurrency() == 1 ? "" : "s");
    print_speed("prefill", {checks.text_tokens, checks.text_seconds});
    print_speed("decode", decode);
}

int write(const Options& options) {
    moe::ensure(!is_gguf(options.model), moe::ErrorCode::range, options.model,
                " is a GGUF file already: --write-gguf reads a folder");
    write_gguf_model(options.model, options.write_gguf);
    std::printf("%s: the model of %s, as llama.cpp has it\n", options.write_gguf.c_str(), options.model.c_str());
    return 0;
}

int run(const Options& options) {
    Eigen::setNbThreads(1);  // --threads is about the MoE layers; and Eigen's threads may change bits
    const Threads threads = make_threads(options.threads);
    const Model model(options.model);
    const TextRequest request{.prompt = options.prompt,
                              .length = static_cast<std::size_t>(options.length),
                              .context = context_of(options, model.config()),
                              .temperature = options.temperature,
                              .seed = options.seed};
    const bool from_folder = !is_gguf(options.model);
    const std::string& reference = options.reference.empty() ? options.model : options.reference;
    const bool checked = !options.reference.empty() || (from_folder && !has_no_reference(reference));
    CheckResult checks;
    if (checked) {
        checks = check_model(model, reference, threads);
        if (!report(checks)) {
            std::fprintf(stderr, "generate: the model does not compute what it should; see the checks that FAILED\n");
            return 1;
        }
    } else {
        std::printf("no stored values in %s to check the model against\n\n", reference.c_str());
    }
    std::vector<LoadCounter> counters(model.layers().size());
    std::vector<moe::Observer<float>*> observers;
    for (LoadCounter& counter : counters) {
        observers.push_back(&counter);
    }
    Decoder decoder(model, threads);
    decoder.observe(observers);
    const Speed decode = write_text(decoder, request);
    print_loads_and_speed(counters, checks, decode, threads);
    if (checked && from_folder && options.reference.empty()) {
        for (const MoESpeed& speed : compare_with_naive(model, options.model, threads)) {
            print_comparison(speed);
        }
    }
    return 0;
}

}  // namespace
}  // namespace generate

int main(int argc, char** argv) {
    try {
        const std::vector<const char*> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
        const generate::Options options = generate::parse_options(arguments);
        if (options.help) {
            std::fputs(generate::usage().c_str(), stdout);
            return 0;
        }
        return options.write_gguf.empty() ? generate::run(options) : generate::write(options);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "generate: %s\n", error.what());
        return 2;
    }
}
