#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace generate {

/// The sizes of a Mixtral model; signed, as Eigen counts.
struct Config {
    std::ptrdiff_t d_model = 0;
    std::ptrdiff_t d_ff = 0;  ///< hidden width of one expert
    std::ptrdiff_t n_layers = 0;
    std::ptrdiff_t n_heads = 0;
    std::ptrdiff_t n_kv_heads = 0;  ///< heads of keys and values; each serves n_heads / n_kv_heads heads of queries
    std::ptrdiff_t head_dim = 0;
    std::ptrdiff_t n_experts = 0;
    std::ptrdiff_t top_k = 0;
    std::ptrdiff_t vocab_size = 0;
    std::ptrdiff_t max_positions = 0;
    double norm_eps = 0;
    double rope_theta = 0;

    /// Whether the frequencies of the rotary positions are rounded to bfloat16, as all of tiny-mixtral was when its
    /// reference values were computed: "moe_rounded_frequencies", an entry of this program, true where it is missing.
    /// That the weights alone are bfloat16 would not be enough: with exact frequencies the logits of the stored prompt
    /// move by 1e-2.
    bool rounded_frequencies = true;

    std::vector<float>
        frequency_factors{};  ///< what each frequency is divided by, as GGUF files say it; empty: nothing
};

/// Reads a config.json as Hugging Face writes it. Throws moe::Error when the file is missing, is not JSON, or describes
/// a model this program does not know; the text names the file and the entry.
[[nodiscard]] Config read_config(const std::string& path);

/// Throws moe::Error(range) naming `path` for sizes that this program cannot compute with.
void confirm_config(const Config& config, const std::string& path);

/// The number that stands under `key` in the JSON file `path`. Throws moe::Error as read_config does.
[[nodiscard]] double read_number(const std::string& path, const std::string& key);

}  // namespace generate
