#include "config.hpp"

#include <cmath>
#include <cstdint>
#include <fstream>

#include <moe/core/error.hpp>
#include <nlohmann/json.hpp>

namespace generate {

namespace {

using Json = nlohmann::json;

/// A JSON object, with the file's name for messages.
class Entries {
public:
    Entries(Json object, std::string file) : object_(std::move(object)), file_(std::move(file)) {
        moe::ensure(object_.is_object(), moe::ErrorCode::syntax, file_, " is not a JSON object");
    }

    [[nodiscard]] std::ptrdiff_t size(const char* key) const {
        constexpr std::int64_t largest = 1 << 20;  // keeps every product of two sizes far from overflow
        const Json& value = at(key);
        const bool fits =
            value.is_number_unsigned() && value.get<std::uint64_t>() >= 1 && value.get<std::uint64_t>() <= largest;
        moe::ensure(fits, moe::ErrorCode::range, file_, ": \"", key, "\" is not a whole number in 1..", largest);
        return value.get<std::ptrdiff_t>();
    }

    [[nodiscard]] double positive(const char* key) const {
        const double value = number(key);
        moe::ensure(value > 0, moe::ErrorCode::range, file_, ": \"", key, "\" is ", value, ", it must be positive");
        return value;
    }

    [[nodiscard]] double number(const char* key) const {
        const Json& value = at(key);
        moe::ensure(value.is_number() && std::isfinite(value.get<double>()), moe::ErrorCode::range, file_, ": \"", key,
                    "\" is not a finite number");
        return value.get<double>();
    }

    [[nodiscard]] bool flag(const char* key, bool otherwise) const {
        const auto found = object_.find(key);
        moe::ensure(found == object_.end() || found->is_boolean(), moe::ErrorCode::range, file_, ": \"", key,
                    "\" is neither true nor false");
        return found == object_.end() ? otherwise : found->get<bool>();
    }

    /// Refuses a model whose `key` is there and differs from what this program computes.
    void expect(const char* key, const Json& wanted) const {
        const auto found = object_.find(key);
        moe::ensure(found == object_.end() || *found == wanted, moe::ErrorCode::range, file_, ": \"", key,
                    "\" must be ", wanted.dump(), " for this program");
    }

    [[nodiscard]] Entries object(const char* key) const { return {at(key), file_ + ", \"" + key + "\""}; }

private:
    [[nodiscard]] const Json& at(const char* key) const {
        const auto found = object_.find(key);
        moe::ensure(found != object_.end(), moe::ErrorCode::missing, file_, " has no entry \"", key, "\"");
        return *found;
    }

    Json object_;
    std::string file_;
};

Entries read_entries(const std::string& path) {
    std::ifstream file(path);
    moe::ensure(file.is_open(), moe::ErrorCode::file, "cannot open ", path);
    Json json = Json::parse(file, nullptr, false);
    moe::ensure(!json.is_discarded(), moe::ErrorCode::syntax, path, " is not well-formed JSON");
    return {std::move(json), path};
}

}  // namespace

void confirm_config(const Config& config, const std::string& path) {
    moe::ensure(config.n_heads % config.n_kv_heads == 0, moe::ErrorCode::range, path, ": ", config.n_heads,
                " attention heads cannot share ", config.n_kv_heads, " heads of keys and values");
    moe::ensure(config.head_dim % 2 == 0, moe::ErrorCode::range, path, ": \"head_dim\" is ", config.head_dim,
                ", rotary positions need an even number");
    moe::ensure(config.vocab_size == 256, moe::ErrorCode::range, path, ": \"vocab_size\" is ", config.vocab_size,
                ", but this program knows no tokens but the 256 bytes");
}

Config read_config(const std::string& path) {
    const Entries entries = read_entries(path);
    entries.expect("model_type", "mixtral");
    entries.expect("dtype", "bfloat16");
    entries.expect("hidden_act", "silu");
    entries.expect("sliding_window", nullptr);
    entries.expect("tie_word_embeddings", false);
    const Entries rope = entries.object("rope_parameters");
    rope.expect("rope_type", "default");
    const Config config{.d_model = entries.size("hidden_size"),
                        .d_ff = entries.size("intermediate_size"),
                        .n_layers = entries.size("num_hidden_layers"),
                        .n_heads = entries.size("num_attention_heads"),
                        .n_kv_heads = entries.size("num_key_value_heads"),
                        .head_dim = entries.size("head_dim"),
                        .n_experts = entries.size("num_local_experts"),
                        .top_k = entries.size("num_experts_per_tok"),
                        .vocab_size = entries.size("vocab_size"),
                        .max_positions = entries.size("max_position_embeddings"),
                        .norm_eps = entries.positive("rms_norm_eps"),
                        .rope_theta = rope.positive("rope_theta"),
                        .rounded_frequencies = entries.flag("moe_rounded_frequencies", true)};
    confirm_config(config, path);
    return config;
}

double read_number(const std::string& path, const std::string& key) { return read_entries(path).number(key.c_str()); }

}  // namespace generate
