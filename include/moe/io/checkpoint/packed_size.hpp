#pragma once

#include <cstddef>
#include <deque>
#include <type_traits>
#include <vector>

#include "../../core/error.hpp"
#include "../../experts/packed_experts.hpp"
#include "../../formats/format.hpp"
#include "compose.hpp"

namespace moe::inline MOE_ABI::detail {

/// Bytes of panels in format F of the experts of a layer, the shared one included.
template <PackedFormat F>
[[nodiscard]] std::size_t panel_bytes(const MoEConfig& config) {
    const std::size_t routed =
        PackedLayout<F>(PanelLayout<float>{config.d_model, config.d_ff, config.form.gated()}, config.n_experts).bytes();
    if (config.shared_d_ff == 0) {
        return routed;
    }
    const PanelLayout<float> shared{config.d_model, config.shared_d_ff, config.form_of_shared().gated()};
    return checked_add(routed, PackedLayout<F>(shared, 1).bytes());
}

/// The same of blocks that `stack(experts, sizes)` finds.
template <class Weights>
[[nodiscard]] std::size_t block_bytes(const StoredLayer& stored, const MoEConfig& config, const Weights& weights) {
    const auto bytes = [&](const AnyForm& form, const StoredExperts& experts, std::size_t n, std::size_t d_ff) {
        return BlockLayout(form.gated(), weights(experts, ExpertSizes{n, config.d_model, d_ff, form.gated()})).bytes();
    };
    const std::size_t routed = bytes(config.form, stored.experts, config.n_experts, config.d_ff);
    return config.shared_d_ff == 0
               ? routed
               : checked_add(routed, bytes(config.form_of_shared(), stored.shared, 1, config.shared_d_ff));
}

/// Bytes of the experts of what Checkpoint::pack makes: the same choices as there and in packed_as_blocks.
[[nodiscard]] inline std::size_t packed_size(const StoredTensors& files, const StoredLayer& stored,
                                             const MoEConfig& config, Format format) {
    ensure(format != Format::float64, ErrorCode::format, "pack: a layer that computes in float cannot be packed as ",
           format_name(format));
    switch (format) {
        case Format::float32: return panel_bytes<float>(config);
        case Format::bfloat16: return panel_bytes<bfloat16>(config);
        case Format::float16: return panel_bytes<float16>(config);
        case Format::int8: return panel_bytes<Int8>(config);
        case Format::int4: return panel_bytes<Int4>(config);
        default: break;
    }
    std::vector<std::vector<float>> biases;
    std::deque<std::vector<const std::byte*>> lists;
    if (files.shards() && !holds_numbers(stored)) {
        const BlockTake take{&biases, &lists};
        return block_bytes(stored, config, [&](const StoredExperts& experts, const ExpertSizes& sizes) {
            return experts_of(experts, sizes, take);
        });
    }
    if (Mxfp4Take::takes(stored.experts) && config.shared_d_ff == 0) {
        return block_bytes(stored, config, [&](const StoredExperts&, const ExpertSizes& sizes) {
            const BlockType& type = *moe::find_block_type(blocks::MXFP4::ggml_type);
            static constexpr std::byte somewhere{};  // a layout looks at sizes alone
            const std::vector<const std::byte*>& list = lists.emplace_back(sizes.n_experts, &somewhere);
            const BlockStack hidden(type, list, sizes.d_ff, sizes.d_model);
            return BlockWeights{sizes.gated ? hidden : BlockStack(), hidden,
                                BlockStack(type, list, sizes.d_model, sizes.d_ff)};
        });
    }
    const auto all = [&]<class W>(W) { return holds<W>(stored.experts) && holds<W>(stored.shared); };
    return all(bfloat16{})  ? panel_bytes<bfloat16>(config)
           : all(float16{}) ? panel_bytes<float16>(config)
                            : panel_bytes<float>(config);
}

}  // namespace moe::inline MOE_ABI::detail
