#pragma once

#include <cstddef>
#include <string>

#include "model.hpp"

namespace generate {

/// How the model, computed in float, differs from the stored values, which were computed in double.
struct CheckResult {
    std::size_t prompt_tokens = 0;
    double logit_error = 0;          ///< largest absolute difference of the prompt's logits; NaN if one is not finite
    std::size_t greedy_tokens = 0;   ///< length of the stored greedy continuation
    std::size_t greedy_correct = 0;  ///< tokens until the first that differs
    std::size_t text_tokens = 0;
    double nll = 0;            ///< mean negative log-likelihood of the stored text, nats a token
    double nll_reference = 0;  ///< the same, stored
    double text_seconds = 0;   ///< time to read the stored text in one batch
};

/// Largest differences that pass. Float rounding moves the logits by about 1e-5; a wrong formula moves them by 0.1.
inline constexpr double logit_tolerance = 1e-3;
inline constexpr double nll_tolerance = 1e-4;

/// Whether `directory` has neither reference.safetensors nor reference.json: a model that somebody trained, of which
/// nobody else computed anything.
[[nodiscard]] bool has_no_reference(const std::string& directory);

/// Runs the model on what reference.safetensors and reference.json of `directory` hold. Throws moe::Error when one is
/// missing or damaged.
[[nodiscard]] CheckResult check_model(const Model& model, const std::string& directory, const Threads& threads);

[[nodiscard]] bool logits_pass(const CheckResult& result);
[[nodiscard]] bool greedy_passes(const CheckResult& result);
[[nodiscard]] bool nll_passes(const CheckResult& result);

}  // namespace generate
