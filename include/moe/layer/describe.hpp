#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "../config.hpp"
#include "../experts/packed_blocks.hpp"
#include "../experts/packed_format.hpp"
#include "../routing/router.hpp"

namespace moe::inline MOE_ABI {

/// Which kernel computes one of a layer's products, and why that one.
struct ProductDescription {
    std::string weights;  ///< format and place: "packed float16", "float32 views", "none" where there is no product
    std::string
        kernel;  ///< "float32 multiply-add", "integer dot products, AVX-512 VNNI"; empty where there is no product
    std::string reason;            ///< what becomes of the weights before they are multiplied, and what would be faster
    std::size_t tile_rows = 0;     ///< rows of activations that share a load of weights, at most
    std::size_t tile_vectors = 0;  ///< vectors of outputs that a tile of so many rows holds in registers
    std::size_t lanes = 0;         ///< outputs a vector

    [[nodiscard]] bool present() const noexcept { return tile_rows > 0; }

    /// One line, e.g. "packed float32: float32 multiply-add, tiles of 6 rows x 4 vectors of 16; used as packed".
    [[nodiscard]] std::string text() const {
        if (!present()) {
            return weights + "; " + reason;
        }
        return weights + ": " + kernel + ", tiles of " + std::to_string(tile_rows) + " rows x " +
               std::to_string(tile_vectors) + " vectors of " + std::to_string(lanes) + "; " + reason;
    }
};

/// Which kernels a layer runs on in the instruction sets this file is compiled for. What a program may print at its
/// start: nothing in a layer falls to a slower path that is not told here.
struct LayerDescription {
    std::string isa;                 ///< isa_name()
    ProductDescription router;       ///< logits
    ProductDescription hidden;       ///< gate and up projections of the routed experts
    ProductDescription output;       ///< their down projections
    ProductDescription shared;       ///< all products of the shared experts
    ProductDescription shared_gate;  ///< what weighs them

    /// A line each.
    [[nodiscard]] std::string text() const {
        return "instruction set: " + isa + "\nrouter: " + router.text() + "\nhidden: " + hidden.text() +
               "\noutput: " + output.text() + "\nshared: " + shared.text() + "\nshared gate: " + shared_gate.text() +
               "\n";
    }
};

namespace detail {

[[nodiscard]] inline ProductDescription no_product(std::string reason) {
    ProductDescription result;
    result.weights = "none";
    result.reason = std::move(reason);
    return result;
}

/// The float kernel (kernels/tile.hpp), which multiplies in T.
template <class T>
[[nodiscard]] ProductDescription float_product(std::string weights, std::string reason) {
    constexpr std::size_t rows = Panel<T>::tile_rows;
    return {std::move(weights),    std::string(format_name<T>()) + " multiply-add",
            std::move(reason),     rows,
            tile_vectors<T>(rows), lanes<T>};
}

/// Panels in the user's memory (multiply_views).
template <WeightElement W>
[[nodiscard]] ProductDescription gathered_product() {
    return float_product<ComputeType<W>>(std::string(format_name<W>()) + " views",
                                         "views are turned over at every use: pack the layer");
}

/// Panels decoded from the user's memory, each encoding named once.
[[nodiscard]] inline ProductDescription encoded_product(std::string_view gate, std::string_view up,
                                                        std::string_view down) {
    std::string weights(up);
    if (!gate.empty() && gate != up) {
        weights += ", " + std::string(gate);
    }
    if (down != up && down != gate) {
        weights += ", " + std::string(down);
    }
    return float_product<float>(weights + " views", "views are decoded at every use: pack the layer");
}

/// Panels packed in their storage type (multiply_packed).
template <WeightElement W>
[[nodiscard]] ProductDescription packed_product() {
    using T = ComputeType<W>;
    const std::string name = format_name<W>();
    std::string reason = "used as packed";
    if constexpr (!std::is_same_v<W, T> && loads_converted<W>) {
        reason = "converted in registers up to " + std::to_string(max_register_rows) + " rows, once per block beyond";
    } else if constexpr (!std::is_same_v<W, T>) {
        reason = "converted once per block: this instruction set has no conversion of " + name + " in registers";
    }
    return float_product<T>("packed " + name, std::move(reason));
}

/// bfloat16 panels on the matrix unit (kernels/split_product.hpp).
[[nodiscard]] inline ProductDescription split_product() {
    return {"packed bfloat16",
            "bfloat16 matrix unit (AMX)",
            "activations are split into three bfloat16; one or two rows go through vectors, with the same bits",
            arch::MatrixUnit::rows,
            Panel<float>::width * sizeof(float) / arch::MatrixUnit::row_bytes,
            arch::MatrixUnit::row_bytes / sizeof(float)};
}

/// Panels as bfloat16, times rows of bfloat16 (kernels/bfloat16_product.hpp).
[[nodiscard]] inline ProductDescription bfloat16_product(std::string weights, bool rounded) {
    ProductDescription result = split_product();
    result.weights = std::move(weights);
    result.reason = rounded ? "activations and weights are rounded to bfloat16" : "activations are rounded to bfloat16";
    if constexpr (!arch::MatrixUnit::present) {
        result.kernel = "bfloat16 pair products, AVX512-BF16";
        result.tile_rows = Panel<float>::tile_rows;
        result.tile_vectors = Panel<float>::vectors;
        result.lanes = lanes<float>;
    }
    return result;
}

/// Quantised panels and rows (kernels/quantized_tile.hpp).
template <QuantizedFormat F>
[[nodiscard]] ProductDescription integer_product() {
    using L = arch::IntegerLanes;
    constexpr std::size_t rows = Panel<float>::tile_rows;
    std::string reason = "activations are quantised in groups of " + std::to_string(quantization_group);
    if constexpr (std::is_same_v<F, Int4>) {
        reason += "; codes are taken apart in registers up to " + std::to_string(max_register_rows) +
                  " rows, once per block beyond";
    }
    if constexpr (std::string_view(L::name) == "plain integers") {
        reason += "; this instruction set has no kernel for integer products of its own";
    }
    return {std::string("packed ") + format_name<F>() + " codes",
            std::string("integer dot products, ") + L::name,
            std::move(reason),
            rows,
            quantized_tile_vectors(rows),
            L::size};
}

/// Panels of block formats (kernels/block_product.hpp).
[[nodiscard]] inline ProductDescription block_product(const BlockLayout& layout, Compute compute) {
    const auto name = [](const BlockPanels& panels) {
        return std::string(moe::find_block_type(panels.number())->name);
    };
    std::string weights = std::string("packed blocks of ") + name(layout.hidden());
    if (layout.output().number() != layout.hidden().number()) {
        weights += " and ";
        weights += name(layout.output());
    }
    if (compute == Compute::bf16) {
        return bfloat16_product(std::move(weights), true);
    }
    if (compute == Compute::int8) {
        ProductDescription result = detail::integer_product<Int8>();
        result.weights = std::move(weights) + ", codes";
        return result;
    }
    return float_product<float>(std::move(weights), "decoded to float32, in registers up to " +
                                                        std::to_string(Panel<float>::tile_rows) +
                                                        " rows, once per block beyond");
}

/// Both products of a bank: packed, views, or a source of somebody else's.
template <PanelSource Source>
[[nodiscard]] ProductDescription expert_product(const Source& source) {
    if constexpr (requires {
                      typename Source::format_type;
                      source.compute();
                  }) {
        using F = typename Source::format_type;
        if (source.compute() == Compute::bf16) {
            return bfloat16_product(std::string("packed ") + format_name<F>(), !std::is_same_v<F, bfloat16>);
        }
        if constexpr (QuantizedFormat<F>) {
            if (source.compute() == Compute::int8) {
                return integer_product<F>();
            }
            const std::string name = format_name<F>();
            return float_product<float>("packed " + name, name + " dequantised to float32, in registers up to " +
                                                              std::to_string(Panel<float>::tile_rows) +
                                                              " rows, once per block beyond");
        } else {
            return source.compute() == Compute::bf16x3 ? split_product() : packed_product<F>();
        }
    } else if constexpr (requires { source.block_layout(); }) {
        return detail::block_product(source.block_layout(), source.compute());
    } else if constexpr (requires { source.base().layout(), source.adapters(); }) {
        ProductDescription result = detail::expert_product(source.base());
        result.weights += " with LoRA adapters";
        return result;
    } else if constexpr (requires { source.weights().up.encoding(); }) {
        return encoded_product(source.weights().gate.encoding(), source.weights().up.encoding(),
                               source.weights().down.encoding());
    } else if constexpr (requires {
                             source.weights();
                             typename Source::element_type;
                         }) {
        return gathered_product<typename Source::element_type>();
    } else {
        return float_product<typename Source::value_type>("a source of the user's", "whatever the source does");
    }
}

template <WeightElement W>
[[nodiscard]] ProductDescription linear_product(const Linear<W>& linear) {
    return linear.is_packed() ? packed_product<W>() : gathered_product<W>();
}

}  // namespace detail

/// What MoELayer::describe() returns. Allocates; not for hot calls.
template <class Layer>
    requires requires(const Layer& layer) {
        layer.router().linear();
        layer.experts().layout();
        layer.shared().experts();
    }
[[nodiscard]] LayerDescription describe(const Layer& layer) {
    LayerDescription result;
    result.isa = isa_name();
    result.router = layer.router().has_logits() ? detail::linear_product(layer.router().linear())
                                                : detail::no_product("the gate reads no logits");
    result.hidden = detail::expert_product(layer.experts());
    result.output = result.hidden;  // one kernel for both, on panels of one format
    const auto& shared = layer.shared();
    result.shared = shared.experts().empty() ? detail::no_product("there are no shared experts")
                                             : detail::expert_product(shared.experts().front());
    result.shared_gate = shared.gate().empty() ? detail::no_product("shared experts are not gated")
                                               : detail::linear_product(shared.gate());
    return result;
}

}  // namespace moe::inline MOE_ABI
