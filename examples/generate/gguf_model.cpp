#include "gguf_model.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <utility>

#include <moe/instantiate.hpp>
#include <moe/io.hpp>

namespace generate {

namespace {

constexpr const char* architecture = "llama";

/// "model.layers.3.self_attn.q_proj.weight" is "blk.3.attn_q.weight".
std::string gguf_name(const std::string& name) {
    constexpr std::array<std::pair<std::string_view, std::string_view>, 3> whole{{
        {"model.embed_tokens.weight", "token_embd.weight"},
        {"model.norm.weight", "output_norm.weight"},
        {"lm_head.weight", "output.weight"},
    }};
    constexpr std::array<std::pair<std::string_view, std::string_view>, 6> of_layer{{
        {"input_layernorm.weight", "attn_norm.weight"},
        {"self_attn.q_proj.weight", "attn_q.weight"},
        {"self_attn.k_proj.weight", "attn_k.weight"},
        {"self_attn.v_proj.weight", "attn_v.weight"},
        {"self_attn.o_proj.weight", "attn_output.weight"},
        {"post_attention_layernorm.weight", "ffn_norm.weight"},
    }};
    constexpr std::string_view layers = "model.layers.";
    if (name.starts_with(layers)) {
        const std::size_t dot = name.find('.', layers.size());
        const std::string number = name.substr(layers.size(), dot - layers.size());
        const auto found = std::ranges::find(of_layer, name.substr(dot + 1), &decltype(of_layer)::value_type::first);
        if (found != of_layer.end()) {
            return "blk." + number + "." + std::string(found->second);
        }
    }
    const auto found = std::ranges::find(whole, name, &decltype(whole)::value_type::first);
    moe::ensure(found != whole.end(), moe::ErrorCode::not_found, "no tensor of GGUF files is ", name);
    return std::string(found->second);
}

bool has_turned_rows(const std::string& name) {
    return name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight");
}

/// The metadata of a file, with its name for messages.
class Metadata {
public:
    Metadata(const moe::GgufFile& file, const std::string& path) : file_(file), path_(path) {
        const auto found = file.metadata_at("general.architecture").as<std::string>();
        moe::ensure(found == architecture, moe::ErrorCode::range, path, ": the architecture is ", found, ", not ",
                    architecture);
    }

    [[nodiscard]] std::ptrdiff_t size(const std::string& key) const {
        return confirmed(key, file_.metadata_at(name(key)).as<std::int64_t>());
    }
    [[nodiscard]] std::ptrdiff_t size(const std::string& key, std::ptrdiff_t otherwise) const {
        const moe::GgufValue* const found = file_.find_metadata(name(key));
        return found == nullptr ? otherwise : confirmed(key, found->as<std::int64_t>());
    }
    [[nodiscard]] double positive(const std::string& key) const {
        const auto value = static_cast<double>(file_.metadata_at(name(key)).as<float>());
        moe::ensure(std::isfinite(value) && value > 0, moe::ErrorCode::range, path_, ": ", name(key), " is ", value,
                    ", it must be positive");
        return value;
    }
    void refuse(const std::string& key) const {
        moe::ensure(file_.find_metadata(name(key)) == nullptr, moe::ErrorCode::range, path_, ": ", name(key),
                    " is something that this program does not compute");
    }

private:
    [[nodiscard]] static std::string name(const std::string& key) { return std::string(architecture) + "." + key; }

    [[nodiscard]] std::ptrdiff_t confirmed(const std::string& key, std::int64_t value) const {
        constexpr std::int64_t largest = 1 << 20;
        moe::ensure(value >= 1 && value <= largest, moe::ErrorCode::range, path_, ": ", name(key), " is ", value,
                    ", not in 1..", largest);
        return value;
    }

    const moe::GgufFile& file_;
    const std::string& path_;
};

Config config_of(const moe::GgufFile& file, const std::string& path) {
    const Metadata metadata(file, path);
    metadata.refuse("rope.scaling.type");
    metadata.refuse("attention.sliding_window");
    const std::ptrdiff_t d_model = metadata.size("embedding_length");
    const std::ptrdiff_t n_heads = metadata.size("attention.head_count");
    const std::ptrdiff_t head_dim =
        metadata.size("attention.key_length", std::max<std::ptrdiff_t>(1, d_model / n_heads));
    const moe::GgufValue* const rounded = file.find_metadata("moe.rounded_frequencies");
    Config config{.d_model = d_model,
                  .d_ff = metadata.size("feed_forward_length"),
                  .n_layers = metadata.size("block_count"),
                  .n_heads = n_heads,
                  .n_kv_heads = metadata.size("attention.head_count_kv", n_heads),
                  .head_dim = head_dim,
                  .n_experts = metadata.size("expert_count"),
                  .top_k = metadata.size("expert_used_count"),
                  .vocab_size = metadata.size("vocab_size"),
                  .max_positions = metadata.size("context_length"),
                  .norm_eps = metadata.positive("attention.layer_norm_rms_epsilon"),
                  .rope_theta = metadata.positive("rope.freq_base"),
                  .rounded_frequencies = rounded != nullptr && rounded->as<bool>()};
    moe::ensure(metadata.size("rope.dimension_count", head_dim) == head_dim, moe::ErrorCode::range, path,
                ": only a part of a head is turned, which this program does not compute");
    confirm_config(config, path);
    if (const moe::GgufTensor* const factors = file.find("rope_freqs.weight");
        factors != nullptr && !config.rounded_frequencies) {
        config.frequency_factors = factors->to_float_vector();
        moe::ensure(std::cmp_equal(config.frequency_factors.size(), head_dim / 2), moe::ErrorCode::shape, path,
                    ": rope_freqs.weight has ", config.frequency_factors.size(), " values, not ", head_dim / 2);
    }
    return config;
}

}  // namespace

Eigen::Index gguf_row(Eigen::Index row, Eigen::Index head_dim) {
    const Eigen::Index half = head_dim / 2;
    const Eigen::Index i = row % head_dim;
    return row - i + i % half * 2 + i / half;
}

bool is_gguf(const std::string& path) { return path.ends_with(".gguf"); }

GgufModel::GgufModel(const std::string& path)
    : path_(path), file_(moe::GgufFile::open(path)), config_(config_of(file_, path_)) {}

std::vector<float> GgufModel::values(const std::string& name, const std::vector<Eigen::Index>& shape) const {
    const std::string inside = gguf_name(name);
    const bool tied = inside == "output.weight" && file_.find(inside) == nullptr;
    const moe::GgufTensor& found = file_.at(tied ? "token_embd.weight" : inside);
    const bool equal = std::equal(found.shape.begin(), found.shape.end(), shape.begin(), shape.end(),
                                  [](std::size_t a, Eigen::Index b) { return std::cmp_equal(a, b); });
    moe::ensure(equal, moe::ErrorCode::shape, path_, ": tensor ", found.name,
                " has another shape than the metadata say");
    return found.to_float_vector();
}

Matrix GgufModel::matrix(const std::string& name, Eigen::Index rows, Eigen::Index cols) const {
    const std::vector<float> stored = values(name, {rows, cols});
    const Eigen::Map<const Matrix> all(stored.data(), rows, cols);
    Matrix result(rows, cols);
    for (Eigen::Index row = 0; row < rows; ++row) {
        result.row(row) = all.row(has_turned_rows(name) ? gguf_row(row, config_.head_dim) : row);
    }
    return result;
}

RowVector GgufModel::vector(const std::string& name, Eigen::Index size) const {
    return Eigen::Map<const RowVector>(values(name, {size}).data(), size);
}

std::vector<moe::AnyLayer<float>> gguf_experts(const std::string& path) {
    const auto checkpoint = moe::Checkpoint::open(path);
    std::vector<moe::AnyLayer<float>> layers;
    for (std::size_t i = 0; i < checkpoint.n_layers(); ++i) {
        layers.push_back(checkpoint.pack(i));
    }
    return layers;
}

}  // namespace generate
