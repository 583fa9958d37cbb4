// Checks a Mixtral model against stored values, then continues a text with it. The MoE blocks are the library's; all
// else, from the embedding to the sampling, is in this folder.

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"
#include "load_chart.hpp"
#include "model.hpp"
#include "naive_moe.hpp"
#include "options.hpp"
#include "sampler.hpp"

namespace generate {
namespace {

struct Speed {
    std::size_t tokens = 0;
    double seconds = 0;
};

Threads make_threads(int n_threads) {
#if defined(_OPENMP)
    return n_threads == 0 ? Threads() : Threads(n_threads);
#else
    moe::ensure(n_threads <= 1, moe::ErrorCode::range, "built without OpenMP, so --threads must be 1");
    return {};
#endif
}

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

/// Prints one byte of text at once; bytes that would steer the terminal become '?'.
void print_byte(std::int32_t byte) {
    const bool steers = (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F;
    std::putchar(steers ? '?' : byte);
    std::fflush(stdout);
}

/// Logits of what follows `text`, of which the model sees all, or the last half of `context` when it is longer.
Matrix read_anew(Decoder& decoder, std::span<const std::int32_t> text, std::size_t context) {
    decoder.restart();
    return decoder.append(text.size() <= context ? text : text.last(context / 2));
}

/// Prints the prompt and its continuation; returns the speed of the steps of one byte.
Speed write_text(Decoder& decoder, const Options& options) {
    std::vector<std::int32_t> text;
    for (const char c : options.prompt) {
        text.push_back(static_cast<unsigned char>(c));
        print_byte(text.back());
    }
    const auto context = static_cast<std::size_t>(options.context);
    Matrix logits = read_anew(decoder, text, context);
    Speed speed;
    for (int i = 0; i < options.length; ++i) {
        const double uniform = moe::random_uniform(options.seed, static_cast<std::uint64_t>(i));
        text.push_back(sample(logits.row(logits.rows() - 1), options.temperature, uniform));
        print_byte(text.back());
        if (std::cmp_greater_equal(decoder.position(), context)) {
            logits = read_anew(decoder, text, context);
            continue;
        }
        const auto start = std::chrono::steady_clock::now();
        logits = decoder.append(std::span(&text.back(), 1));
        speed.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        ++speed.tokens;
    }
    std::printf("\n\n");
    return speed;
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

int run(const Options& options) {
    Eigen::setNbThreads(1);  // --threads is about the MoE layers; and Eigen's threads may change bits
    const Threads threads = make_threads(options.threads);
    const Model model(options.model);
    moe::ensure(std::cmp_less_equal(options.context, model.config().max_positions), moe::ErrorCode::range, "--context ",
                options.context, " exceeds the ", model.config().max_positions, " positions of the model");
    const CheckResult checks = check_model(model, options.model, threads);
    if (!report(checks)) {
        std::fprintf(stderr, "generate: the model does not compute what it should; see the checks that FAILED\n");
        return 1;
    }
    std::vector<LoadCounter> counters(model.layers().size());
    std::vector<moe::Observer<float>*> observers;
    for (LoadCounter& counter : counters) {
        observers.push_back(&counter);
    }
    Decoder decoder(model, threads);
    decoder.observe(observers);
    const Speed decode = write_text(decoder, options);
    std::printf("expert load, %% of each layer's choices\n%s\n", load_chart(counters).c_str());
    std::printf("speed on %zu thread%s\n", threads.concurrency(), threads.concurrency() == 1 ? "" : "s");
    print_speed("prefill", {checks.text_tokens, checks.text_seconds});
    print_speed("decode", decode);
    for (const MoESpeed& speed : compare_with_naive(model, options.model, threads)) {
        print_comparison(speed);
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
        return generate::run(options);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "generate: %s\n", error.what());
        return 2;
    }
}
