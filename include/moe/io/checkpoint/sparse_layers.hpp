#pragma once

#include <charconv>
#include <cstddef>
#include <string_view>
#include <vector>

#include "config_keys.hpp"

namespace moe::inline MOE_ABI::detail {

/// More layers than any model has; files that say more are refused.
inline constexpr std::size_t max_layers = 4096;

[[nodiscard]] inline std::size_t possible_layers(std::size_t count, std::string_view context) {
    ensure(count >= 1 && count <= max_layers, ErrorCode::range, context, ": ", count, " layers, it must be 1..",
           max_layers);
    return count;
}

/// Which layers have experts, one entry a layer, by all the ways in which config.json says it.
class SparseLayers {
public:
    explicit SparseLayers(const ConfigKeys& keys) : keys_(keys) {
        const auto pattern = keys.text({"hybrid_override_pattern"});
        const auto kinds = keys.texts({"mlp_layer_types", "layers_block_type"});
        const bool of_text = keys.has({"encoder_sparse_step", "num_sparse_encoder_layers"});
        std::size_t count = 0;
        if (pattern) {
            count = pattern->size();
        } else if (keys.is_list({"layers_block_type"}) && !keys.has({"num_hidden_layers"})) {
            count = kinds->size();
        } else if (keys.has({"zero_expert_num"}) && keys.has({"num_layers"})) {
            count = keys.needed("the number of layers", {"num_layers"});  // LongCat-Flash: the other key is twice that
        } else {
            count = keys.needed("the number of layers", {"num_hidden_layers", "num_layers", "n_layers"});
        }
        count = possible_layers(count, keys.context());
        sparse_.assign(count, true);
        if (of_text) {
            encoder_and_decoder(count);
            return;
        }
        if (pattern) {
            keep([&](std::size_t i) { return (*pattern)[i] == 'E'; });
        }
        if (kinds) {
            confirm_length(kinds->size(), "mlp_layer_types");
            keep([&](std::size_t i) { return (*kinds)[i] == "sparse" || (*kinds)[i] == "moe"; });
        }
        leading();
        steps();
        lists();
    }

    [[nodiscard]] const std::vector<bool>& layers() const noexcept { return sparse_; }

private:
    template <class Keep>
    void keep(Keep keeps) {
        for (std::size_t i = 0; i < sparse_.size(); ++i) {
            sparse_[i] = sparse_[i] && keeps(i);
        }
    }

    void confirm_length(std::size_t size, std::string_view name) const {
        ensure(size >= sparse_.size(), ErrorCode::layout, keys_.context(), ": ", name, " has ", size, " entries for ",
               sparse_.size(), " layers");
    }

    [[nodiscard]] std::size_t step(ConfigKeys::Names names) const {
        const std::size_t value = keys_.natural(names).value_or(1);
        ensure(value > 0, ErrorCode::range, keys_.context(), ": ", *names.begin(), " is 0, it must be at least 1");
        return value;
    }

    void leading() {
        const std::size_t dense =
            keys_.natural({"first_k_dense_replace", "num_dense_layers", "moe_layer_num_skipped"}).value_or(0);
        keep([&](std::size_t i) { return i >= dense; });
        const std::size_t first = keys_.natural({"moe_layer_start_index"}).value_or(0);
        keep([&](std::size_t i) { return i >= first; });
        // -1 is ERNIE's way to say up to the last
        if (keys_.number({"moe_layer_end_index"}).value_or(-1) >= 0) {
            const std::size_t last = *keys_.natural({"moe_layer_end_index"});
            keep([&](std::size_t i) { return i <= last; });
        }
    }

    void steps() {
        for (const std::string_view name : {"decoder_sparse_step", "moe_layer_frequency", "moe_layer_interval"}) {
            const std::size_t every = step({name});
            keep([&](std::size_t i) { return (i + 1) % every == 0; });
        }
        if (!keys_.has({"moe_layers"})) {
            const std::size_t every = step({"interleave_moe_layer_step"});
            keep([&](std::size_t i) { return (i + 1) % every == 0; });
        }
        const std::size_t period = step({"expert_layer_period"});
        const std::size_t offset = keys_.natural({"expert_layer_offset"}).value_or(0);
        keep([&](std::size_t i) { return i % period == offset % period; });
        if (!keys_.is_list({"moe_layer_freq"})) {
            const std::size_t every = step({"moe_layer_freq"});
            keep([&](std::size_t i) { return i % every == 0; });
        }
    }

    void lists() {
        if (keys_.is_list({"moe_layer_freq", "is_moe_layer"})) {
            const auto flags = *keys_.naturals({"moe_layer_freq", "is_moe_layer"});
            confirm_length(flags.size(), "moe_layer_freq");
            keep([&](std::size_t i) { return flags[i] != 0; });
        }
        if (const auto dense = keys_.naturals({"mlp_only_layers"})) {
            for (const std::size_t layer : *dense) {
                sparse_[confirmed(layer, "mlp_only_layers")] = false;
            }
        }
        if (const auto sparse = keys_.naturals({"moe_layers"})) {
            only(*sparse, "moe_layers");
        }
        if (const auto text = keys_.text({"moe_layers_enum"})) {
            std::vector<std::size_t> sparse;
            for (const char* at = text->data(); at < text->data() + text->size(); ++at) {
                std::size_t layer = 0;
                const auto read = std::from_chars(at, text->data() + text->size(), layer);
                ensure(read.ec == std::errc{} && (read.ptr == text->data() + text->size() || *read.ptr == ','),
                       ErrorCode::header, keys_.context(), ": moe_layers_enum is ", in_quotes(*text),
                       ", not numbers with commas between them");
                sparse.push_back(layer);
                at = read.ptr;
            }
            only(sparse, "moe_layers_enum");
        }
    }

    void only(const std::vector<std::size_t>& layers, std::string_view name) {
        std::vector<bool> listed(sparse_.size());
        for (const std::size_t layer : layers) {
            listed[confirmed(layer, name)] = true;
        }
        keep([&](std::size_t i) { return listed[i]; });
    }

    [[nodiscard]] std::size_t confirmed(std::size_t layer, std::string_view name) const {
        ensure(layer < sparse_.size(), ErrorCode::range, keys_.context(), ": ", name, " names layer ", layer, " of ",
               sparse_.size());
        return layer;
    }

    /// Switch Transformers: the layers of the encoder, then those of the decoder.
    void encoder_and_decoder(std::size_t encoder) {
        const std::size_t decoder =
            possible_layers(keys_.natural({"num_decoder_layers"}).value_or(encoder), keys_.context());
        sparse_.assign(encoder + decoder, false);
        const auto every = [&](std::string_view step_name, std::string_view count_name, std::size_t count) {
            const std::size_t sparse = keys_.natural({count_name}).value_or(0);
            return keys_.natural({step_name}).value_or(sparse > 0 ? count / sparse : count);
        };
        const std::size_t in_encoder = every("encoder_sparse_step", "num_sparse_encoder_layers", encoder);
        const std::size_t in_decoder = every("decoder_sparse_step", "num_sparse_decoder_layers", decoder);
        for (std::size_t i = 0; i < sparse_.size(); ++i) {
            const std::size_t distance = i < encoder ? in_encoder : in_decoder;
            const std::size_t at = i < encoder ? i : i - encoder;
            sparse_[i] = distance == 1 || (distance > 1 && at % distance == 1);
        }
    }

    const ConfigKeys& keys_;
    std::vector<bool> sparse_;
};

}  // namespace moe::inline MOE_ABI::detail
