#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

#include "../formats/format.hpp"
#include "layer_calls.hpp"
#include "moe_layer.hpp"
#include "pack.hpp"

namespace moe::inline MOE_ABI {

template <class T>
class AnyLayer;
template <class T, class G>
class AnyLayerWithGate;

namespace detail {

template <class R, class Experts, class Shared>
[[nodiscard]] AnyLayer<typename Experts::value_type> pack_as(const MoELayer<R, Experts, Shared>& layer, Format format,
                                                             const ExecutorRef& executor, Compute compute);

/// Whether the weights of a layer are views, which can be packed.
template <class Layer>
concept OfViews = requires(const Layer& layer) {
    layer.experts().weights();
};

/// A layer that a pass runs, in T: a MoELayer of any router, gate, experts and format.
template <class L, class T>
concept ErasableLayer = std::derived_from<L, LayerCalls<L, T>> && !std::same_as<L, AnyLayer<T>>;

}  // namespace detail

/// A layer of any router, gate, form and format that computes in T, as a value of one type: for layers of different
/// formats in one container, and for formats known at run time. Everything one can do with a MoELayer, with its bits.
/// The passes of a MoELayer see it through references in any case (PassLayer), so that this costs one indirect call a
/// pass. Copies share the layer, which does not change. Allocates when it is made from a layer.
template <class T = float>
class AnyLayer : public LayerCalls<AnyLayer<T>, T> {
public:
    using value_type = T;

    /// Takes the layer. What it views must outlive this and all copies.
    template <detail::ErasableLayer<T> Layer>
    AnyLayer(Layer layer)  // NOLINT: implicit, so that a list of layers can be braced
        : held_(std::make_shared<const Held<Layer>>(std::move(layer))) {}

    /// Throws Error(state), as all members do, where it was moved from.
    [[nodiscard]] std::size_t d_model() const { return erased().experts.layout().d_model; }
    [[nodiscard]] std::size_t n_experts() const { return erased().n_experts; }
    [[nodiscard]] LayerDescription describe() const { return held().describe(); }

    /// The same layer under another gate, which it holds together with a copy of this: see MoELayer::with_gate.
    template <class G>
    [[nodiscard]] AnyLayerWithGate<T, G> with_gate(G gate) const {
        return {*this, std::move(gate)};
    }

    /// What pack(layer, format) returns. Throws Error(missing) for a layer whose experts are no views.
    template <Executor E = SerialExecutor>
    [[nodiscard]] AnyLayer packed(Format format, const E& executor = {}, Compute compute = Compute::by_format) const {
        AnyLayer result = held().packed(format, ExecutorRef(executor), compute);
        result.memory_ = memory_;  // which the gate and small weights may still be in
        return result;
    }

    /// The same layer, which also keeps `memory` that it views: freed with the last copy, and with the last of what was
    /// packed or given another gate from one.
    [[nodiscard]] AnyLayer keeping(std::shared_ptr<const void> memory) const {
        using Both = std::pair<std::shared_ptr<const void>, std::shared_ptr<const void>>;
        AnyLayer result = *this;
        if (memory_ != nullptr) {
            memory = std::make_shared<const Both>(memory_, std::move(memory));
        }
        result.memory_ = std::move(memory);
        return result;
    }

    /// The layer as a pass sees it.
    [[nodiscard]] PassLayer<T> erased() const& { return held().erased(); }
    PassLayer<T> erased() const&& = delete;  // temporary: give the layer a name

private:
    struct Base {
        Base() = default;
        Base(const Base&) = delete;
        Base& operator=(const Base&) = delete;
        virtual ~Base() = default;
        [[nodiscard]] virtual PassLayer<T> erased() const = 0;
        [[nodiscard]] virtual LayerDescription describe() const = 0;
        [[nodiscard]] virtual AnyLayer packed(Format format, const ExecutorRef& executor, Compute compute) const = 0;
    };

    template <class Layer>
    struct Held final : Base {
        explicit Held(Layer the_layer) : layer(std::move(the_layer)) {}
        [[nodiscard]] PassLayer<T> erased() const override { return layer.erased(); }
        [[nodiscard]] LayerDescription describe() const override { return layer.describe(); }
        [[nodiscard]] AnyLayer packed([[maybe_unused]] Format format, [[maybe_unused]] const ExecutorRef& executor,
                                      [[maybe_unused]] Compute compute) const override {
            if constexpr (detail::OfViews<Layer>) {
                return detail::pack_as(layer, format, executor, compute);
            } else {
                raise_error(ErrorCode::missing,
                            "pack: the experts of this layer are no views, they are packed already");
            }
        }

        Layer layer;
    };

    [[nodiscard]] const Base& held() const {
        ensure(held_ != nullptr, ErrorCode::state, "AnyLayer: it was moved from and holds no layer");
        return *held_;
    }

    std::shared_ptr<const void> memory_;  // before held_: freed after it
    std::shared_ptr<const Base> held_;
};

template <class Layer>
AnyLayer(Layer) -> AnyLayer<typename Layer::value_type>;

/// A layer of any kind under another gate, from AnyLayer::with_gate.
template <class T, class G>
class AnyLayerWithGate : public LayerCalls<AnyLayerWithGate<T, G>, T> {
public:
    using value_type = T;

    static_assert(check_gate<G, T>());

    /// See MoELayer::with_gate.
    AnyLayerWithGate(AnyLayer<T> layer, G gate) : layer_(std::move(layer)), gate_(std::move(gate)) {
        if constexpr (Gate<G, T>) {
            const PassLayer<T> inside = layer_.erased();
            const bool reads = moe::needs_logits(gate_);
            ensure(inside.router.outputs() > 0 || !reads, ErrorCode::missing,
                   "with_gate: this gate reads logits, but the router of the layer has no weights");
            const std::size_t n = reads ? moe::gate_n_experts(gate_, inside.router.outputs()) : inside.n_experts;
            ensure(n == inside.n_experts, ErrorCode::shape, "with_gate: this gate chooses among ", n,
                   " experts, the layer's among ", inside.n_experts);
            moe::validate_gate(gate_, n);
        }
    }

    [[nodiscard]] std::size_t d_model() const { return layer_.d_model(); }
    [[nodiscard]] std::size_t n_experts() const { return layer_.n_experts(); }
    [[nodiscard]] LayerDescription describe() const { return layer_.describe(); }

    PassLayer<T> erased() const&& = delete;  // temporary: give the layer a name
    [[nodiscard]] PassLayer<T> erased() const& {
        PassLayer<T> layer = layer_.erased();
        if constexpr (Gate<G, T>) {
            layer.gate = GateRef<T>(gate_);
            layer.has_logits = moe::needs_logits(gate_);
        }
        return layer;
    }

private:
    AnyLayer<T> layer_;
    G gate_;
};

namespace detail {

/// See pack below.
template <class R, class Experts, class Shared>
[[nodiscard]] AnyLayer<typename Experts::value_type> pack_as(const MoELayer<R, Experts, Shared>& layer, Format format,
                                                             const ExecutorRef& executor, Compute compute) {
    constexpr bool in_double = std::is_same_v<typename Experts::value_type, double>;
    const char* const name = moe::format_name(format);  // which throws for a number that is none
    if (format == Format::as_stored) {
        return moe::pack(layer, executor, compute);
    }
    ensure(in_double == (format == Format::float64), ErrorCode::format, "pack: a layer that computes in ",
           in_double ? "double" : "float", " cannot be packed as ", name);
    if constexpr (in_double) {
        return moe::pack<double>(layer, executor, compute);
    } else {
        switch (format) {
            case Format::bfloat16: return moe::pack<bfloat16>(layer, executor, compute);
            case Format::float16: return moe::pack<float16>(layer, executor, compute);
            case Format::int8: return moe::pack<Int8>(layer, executor, compute);
            case Format::int4: return moe::pack<Int4>(layer, executor, compute);
            default: return moe::pack<float>(layer, executor, compute);
        }
    }
}

}  // namespace detail

/// The same layer with its router and all its experts packed in a format known when the program runs, on the workers of
/// `executor`. Throws what pack<F>(layer) does, and Error(format) naming the format where the layer computes in double
/// and it is not float64, or the reverse.
template <class R, class Experts, class Shared, Executor E = SerialExecutor>
    requires requires(const Experts& experts) { experts.weights(); }
[[nodiscard]] AnyLayer<typename Experts::value_type> pack(const MoELayer<R, Experts, Shared>& layer, Format format,
                                                          const E& executor = {},
                                                          Compute compute = Compute::by_format) {
    return detail::pack_as(layer, format, ExecutorRef(executor), compute);
}

/// The same of a layer whose parts are not known when compiling.
template <class T, Executor E = SerialExecutor>
[[nodiscard]] AnyLayer<T> pack(const AnyLayer<T>& layer, Format format, const E& executor = {},
                               Compute compute = Compute::by_format) {
    return layer.packed(format, executor, compute);
}
template <class T, Executor E = SerialExecutor>
[[nodiscard]] AnyLayer<T> pack(const AnyLayer<T>& layer, const E& executor = {}, Compute compute = Compute::by_format) {
    return layer.packed(Format::as_stored, executor, compute);
}

}  // namespace moe::inline MOE_ABI
