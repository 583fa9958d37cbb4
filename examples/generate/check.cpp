#include "check.hpp"

#include <chrono>
#include <cmath>
#include <filesystem>

#include "sampler.hpp"

namespace generate {

namespace {

using Tokens = std::vector<std::int32_t>;

/// NaN as soon as one of the values is not finite, so that no comparison with it passes.
double largest_difference(const Matrix& a, const Matrix& b) {
    return a.allFinite() ? static_cast<double>((a - b).cwiseAbs().maxCoeff()) : std::nan("");
}

void check_prompt(const Model& model, const Checkpoint& reference, const Threads& threads, CheckResult& result) {
    const Eigen::Index vocab_size = model.config().vocab_size;
    const Tokens prompt = reference.tokens("prompt", vocab_size);
    const Tokens wanted = reference.tokens("greedy", vocab_size);
    moe::ensure(wanted.size() > prompt.size(), moe::ErrorCode::shape, "the stored greedy text has ", wanted.size(),
                " tokens, no more than its prompt");
    Decoder decoder(model, threads);
    Matrix logits = decoder.append(prompt);
    result.prompt_tokens = prompt.size();
    result.logit_error = largest_difference(logits, reference.matrix("prompt_logits", logits.rows(), vocab_size));
    result.greedy_tokens = wanted.size() - prompt.size();
    for (std::size_t i = prompt.size(); i < wanted.size(); ++i) {
        const std::int32_t token = most_likely(logits.row(logits.rows() - 1));
        if (token != wanted[i]) {
            return;
        }
        ++result.greedy_correct;
        if (i + 1 < wanted.size()) {
            logits = decoder.append(std::span(&token, 1));
        }
    }
}

void check_text(const Model& model, const Checkpoint& reference, const Threads& threads, CheckResult& result) {
    const Tokens text = reference.tokens("text", model.config().vocab_size);
    Decoder decoder(model, threads);
    const auto start = std::chrono::steady_clock::now();
    const Matrix logits = decoder.append(text);
    result.text_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    result.text_tokens = text.size();
    for (std::size_t t = 0; t + 1 < text.size(); ++t) {
        result.nll += negative_log_likelihood(logits, static_cast<Eigen::Index>(t), text[t + 1]);
    }
    result.nll /= static_cast<double>(text.size() - 1);
}

}  // namespace

bool has_no_reference(const std::string& directory) {
    return !std::filesystem::exists(directory + "/reference.safetensors") &&
           !std::filesystem::exists(directory + "/reference.json");
}

CheckResult check_model(const Model& model, const std::string& directory, const Threads& threads) {
    CheckResult result;
    result.nll_reference = read_number(directory + "/reference.json", "nll_text512");
    const Checkpoint reference(directory + "/reference.safetensors");
    check_prompt(model, reference, threads, result);
    check_text(model, reference, threads, result);
    return result;
}

bool logits_pass(const CheckResult& result) { return result.logit_error <= logit_tolerance; }
bool greedy_passes(const CheckResult& result) { return result.greedy_correct == result.greedy_tokens; }
bool nll_passes(const CheckResult& result) { return std::abs(result.nll - result.nll_reference) <= nll_tolerance; }

}  // namespace generate
