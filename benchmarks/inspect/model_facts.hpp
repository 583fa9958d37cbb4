#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include <moe/formats/format.hpp>
#include <moe/stats/cost.hpp>

namespace moe::inline MOE_ABI {
class Checkpoint;
}

namespace inspect {

/// The tensors of one kind in one type, over all layers of a group.
struct WeightRow {
    std::string part;
    std::string type;
    std::size_t layers = 0;
    std::size_t tensors = 0;
    double weights = 0;
    double bytes = 0;
};

/// What experts can be packed in.
inline constexpr std::array packed_formats{moe::Format::as_stored, moe::Format::int8, moe::Format::int4};

/// Layers of one shape with one way to choose.
struct LayerGroup {
    std::vector<std::size_t> layers;
    std::string shape;
    std::string routing;
    std::vector<WeightRow> rows;
    moe::CostModel cost;  ///< of these layers alone
    double routed_bytes = 0;
    double expert_bytes = 0;  ///< of routed and shared experts, biases of experts included
    double other_bytes = 0;   ///< router and what belongs to it
    bool codes = false;       ///< experts are codes, which are multiplied as integers once they are packed
    std::array<double, packed_formats.size()> packed{};  ///< bytes of the experts of all layers

    /// Bytes a weight of the experts and of all else.
    [[nodiscard]] moe::BytesPerWeight bytes_per_weight() const;
};

/// All that is not in a layer with experts: attention, dense layers, norms, embeddings.
struct OtherTensors {
    double weights = 0;
    double active_weights = 0;  ///< without the embedding of the input, where it is no output as well, and without
                                ///< layers behind the last, which only predict further tokens
    double bytes = 0;
    double active_bytes = 0;
};

/// What a checkpoint is, without any product.
struct ModelFacts {
    std::string architecture;
    std::size_t n_layers = 0;
    std::vector<LayerGroup> groups;
    std::vector<std::size_t> dense_layers;
    OtherTensors others;

    [[nodiscard]] double total_parameters() const;
    [[nodiscard]] double active_parameters() const;
    [[nodiscard]] double total_bytes() const;
    [[nodiscard]] double bytes_per_token() const;
    [[nodiscard]] std::size_t sparse_layers() const;
};

/// Looks at headers and at the small tensors of one layer of each kind. Throws moe::Error for what does not fit.
[[nodiscard]] ModelFacts facts_of(const moe::Checkpoint& checkpoint);

}  // namespace inspect
