#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>

#include "../../experts/encoded_bank.hpp"
#include "../../experts/expert_bank.hpp"
#include "../../experts/joined_experts.hpp"
#include "../../experts/lora_experts.hpp"
#include "../../experts/packed_experts.hpp"
#include "form_derivative.hpp"

namespace moe::inline MOE_ABI {

enum class Projection : unsigned char { gate, up, down };

namespace detail {

/// Panels of the transposed matrices of a bank over views: what the backward pass multiplies with. The panel's outputs
/// are inputs of the projection, from `first_input` on; its inputs, of which `depth` are filled from `first` on, are
/// outputs.
template <WeightElement W>
[[nodiscard]] WeightBlock<W> transposed_block(const ExpertWeights<W>& weights, Projection projection, std::size_t e,
                                              std::size_t first_input) {
    const WeightStack<W>& stack = projection == Projection::gate ? weights.gate
                                  : projection == Projection::up ? weights.up
                                                                 : weights.down;
    const std::size_t count = (std::min)(Panel<ComputeType<W>>::width, stack.inputs() - first_input);
    return stack.transposed_block(e, first_input, count);
}
template <WeightElement W>
void gather_transposed(const ExpertWeights<W>& weights, Projection projection, std::size_t e, std::size_t first_input,
                       std::size_t first, std::size_t depth, ComputeType<W>* block) {
    constexpr std::size_t width = Panel<ComputeType<W>>::width;
    pack_block(transposed_block(weights, projection, e, first_input), first, depth, width, block, width);
}

/// The same of encoded weights: a row of such a panel is a piece of one of theirs.
inline void gather_transposed(const EncodedWeights& weights, Projection projection, std::size_t e,
                              std::size_t first_input, std::size_t first, std::size_t depth, float* block) {
    constexpr std::size_t width = Panel<float>::width;
    const EncodedStack& stack = projection == Projection::gate ? weights.gate
                                : projection == Projection::up ? weights.up
                                                               : weights.down;
    const std::size_t count = (std::min)(width, stack.inputs() - first_input);
    stack.decode(e, first, depth, first_input, count, block, width);
    for (std::size_t k = 0; k < depth; ++k) {
        std::fill(block + k * width + count, block + (k + 1) * width, 0.0F);
    }
}

/// Inputs [first, first + depth) of a packed panel, (depth, width) values.
template <PackedFormat F, class T>
void unpack_panel(const std::byte* panel, std::size_t first, std::size_t depth, T* target) {
    constexpr std::size_t width = Panel<T>::width;
    if constexpr (QuantizedFormat<F>) {
        std::array<float, quantization_group * width> group;
        for (std::size_t k = first; k < first + depth;) {
            const std::size_t inside = k % quantization_group;
            const std::size_t count = (std::min)(quantization_group - inside, first + depth - k);
            decode_group<F>(panel + k / quantization_group * QuantizedPanel<F>::group_bytes, group.data());
            std::copy_n(group.data() + inside * width, count * width, target + (k - first) * width);
            k += count;
        }
    } else {
        convert_run(reinterpret_cast<const F*>(panel) + first * width, depth * width, target);
    }
}

/// The same of packed experts.
template <PackedFormat F, class Form>
void gather_transposed(const PackedExperts<F, Form>& experts, Projection projection, std::size_t e,
                       std::size_t first_input, std::size_t first, std::size_t depth,
                       typename PackedExperts<F, Form>::value_type* block) {
    using T = typename PackedExperts<F, Form>::value_type;
    constexpr std::size_t width = Panel<T>::width;
    const PanelLayout<T>& layout = experts.layout();
    const PackedLayout<F>& packed = experts.packed_layout();
    const bool down = projection == Projection::down;
    const std::size_t columns = down ? width : layout.hidden_columns();
    const std::size_t offset = !down && layout.gated && projection == Projection::up ? columns : 0;
    const std::size_t inputs = down ? layout.d_ff : layout.d_model;
    const std::size_t count = (std::min)(width, inputs - first_input);
    std::array<T, width * width> values;
    for (std::size_t o = first; o < first + depth;) {
        const std::size_t panel = o / columns;
        const std::size_t inside = o % columns;
        const std::size_t here = (std::min)(columns - inside, first + depth - o);
        const std::size_t at = down ? packed.output_panel(e, panel) : packed.hidden_panel(e, panel);
        unpack_panel<F>(experts.data().data() + at, first_input, count, values.data());
        pack_block(WeightBlock<T>{values.data() + offset, count, width, 1}, inside, here, width,
                   block + (o - first) * width, width);
        o += here;
    }
}

}  // namespace detail

/// Where the derivatives of the hidden values of a few rows go, and what they are made of: one strip of Panel<T>::width
/// hidden columns.
template <class T>
struct HiddenStrip {
    std::size_t n_rows;
    const T* gate;             ///< (n_rows, width) products with x, without biases; unused of plain forms
    const T* up;               ///< the same
    const T* gate_bias;        ///< (width)
    const T* up_bias;          ///< (width)
    const T* q;                ///< (n_rows, width) dy times the transposed down projection
    std::span<const T> input;  ///< (n_rows) what x was multiplied with, or empty: 1
    std::span<const T> scale;  ///< (n_rows) what q is multiplied with in the derivatives
    T* const* hidden;          ///< (n_rows) hidden values, each `width` of them
    T* const* d_gate;          ///< (n_rows) derivatives of gate * x + bias; unused of plain forms
    T* const* d_up;            ///< (n_rows)
    T* dots;                   ///< (n_rows) <hidden, q>, or where there is `input` the derivative of it
};

namespace detail {

template <class T, class Form>
void differentiate_strip(const Form& any_form, const HiddenStrip<T>& strip) {
    constexpr std::size_t width = Panel<T>::width;
    moe::visit_form(any_form, [&](const auto& form) {
        for (std::size_t r = 0; r < strip.n_rows; ++r) {
            const Vector<T> input(strip.input.empty() ? T(1) : strip.input[r]);
            const Vector<T> scale(strip.scale[r]);
            Vector<T> dot(T(0));
            for (std::size_t c = 0; c < width; c += lanes<T>) {
                const std::size_t at = r * width + c;
                const Vector<T> raw_up = load(strip.up + at);
                const Vector<T> up = multiply_add<T>(raw_up, input, load(strip.up_bias + c));
                const Vector<T> q = load(strip.q + at);
                Vector<T> raw_gate(T(0));
                Vector<T> gate(T(0));
                if constexpr (std::remove_cvref_t<decltype(form)>::gated()) {
                    raw_gate = load(strip.gate + at);
                    gate = multiply_add<T>(raw_gate, input, load(strip.gate_bias + c));
                }
                const FormDerivative<Vector<T>> derivative = moe::differentiate(form, gate, up);
                store(strip.hidden[r] + c, derivative.value);
                const Vector<T> d_up = scale * q * derivative.by_up;
                store(strip.d_up[r] + c, d_up);
                Vector<T> d_gate(T(0));
                if constexpr (std::remove_cvref_t<decltype(form)>::gated()) {
                    d_gate = scale * q * derivative.by_gate;
                    store(strip.d_gate[r] + c, d_gate);
                }
                if (strip.input.empty()) {
                    dot = multiply_add<T>(derivative.value, q, dot);
                } else {
                    dot = multiply_add<T>(d_up, raw_up, multiply_add<T>(d_gate, raw_gate, dot));
                }
            }
            std::array<T, lanes<T>> parts;
            store(parts.data(), dot);
            T sum = 0;
            for (const T part : parts) {
                sum += part;
            }
            strip.dots[r] = sum;
        }
    });
}

}  // namespace detail

/// Any bank of experts as the backward pass sees it. The bank must outlive it.
template <class T>
class BackwardExperts {
public:
    BackwardExperts() = default;

    /// Over views, packed in any format (computed exactly, whatever its Compute), two of them joined, or adapted.
    template <PanelSource S>
    explicit BackwardExperts(const S& source)
        : source_(&source),
          n_experts_(source.n_experts()),
          layout_(source.layout()),
          adapters_(adapters_of(source)),
          hidden_(
              [](const void* self, std::size_t e, PanelRange panels, RowPointers x, const PanelScratch<T>& scratch) {
                  multiply_hidden(*static_cast<const S*>(self), e, panels, x, scratch);
              }),
          hidden_bias_([](const void* self, std::size_t e, std::size_t panel, T* row) {
              static_cast<const S*>(self)->hidden_bias(e, panel, row);
          }),
          output_bias_([](const void* self, std::size_t e, std::size_t panel, T* row) {
              static_cast<const S*>(self)->output_bias(e, panel, row);
          }),
          gather_([](const void* self, Projection projection, std::size_t e, std::size_t first_input, std::size_t first,
                     std::size_t depth, T* block) {
              gather(*static_cast<const S*>(self), projection, e, first_input, first, depth, block);
          }),
          locate_([](const void* self, Projection projection, std::size_t e, std::size_t first_input, std::size_t first,
                     std::size_t depth) {
              return locate(*static_cast<const S*>(self), projection, e, first_input, first, depth);
          }),
          differentiate_([](const void* self, const HiddenStrip<T>& strip) {
              detail::differentiate_strip<T>(static_cast<const S*>(self)->form(), strip);
          }) {}

    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_; }
    [[nodiscard]] const PanelLayout<T>& layout() const noexcept { return layout_; }
    /// Hidden values, whole strips.
    [[nodiscard]] std::size_t padded_d_ff() const noexcept { return round_up(layout_.d_ff, Panel<T>::width); }

    /// Where values of adapters stand in a row of an entry, behind hidden values and derivatives; and all its values.
    [[nodiscard]] std::size_t adapter_at() const { return checked_multiply(padded_d_ff(), layout_.gated ? 3 : 2); }
    [[nodiscard]] std::size_t row_values() const {
        if (adapters_ == nullptr) {
            return adapter_at();
        }
        const std::size_t ranks = adapters_->gate.rank() + adapters_->up.rank() + adapters_->down.rank();
        return checked_add(adapter_at(), round_up(2 * ranks, Panel<T>::width));
    }
    /// What is added to the weights, or null.
    [[nodiscard]] const LoraAdapters<T>* adapters() const noexcept { return adapters_; }

    /// scratch.sums (panels, n_rows, width) = x times hidden panels.
    void multiply_hidden(std::size_t e, PanelRange panels, RowPointers x, const PanelScratch<T>& scratch) const {
        hidden_(source_, e, panels, x, scratch);
    }
    void hidden_bias(std::size_t e, std::size_t panel, T* row) const { hidden_bias_(source_, e, panel, row); }
    void output_bias(std::size_t e, std::size_t panel, T* row) const { output_bias_(source_, e, panel, row); }

    /// scratch.sums (panels, n_rows, width) = rows (n_rows, outputs of the projection) times its transposed matrix,
    /// without its adapter.
    void multiply_transposed(Projection projection, std::size_t e, PanelRange panels, RowPointers rows,
                             const PanelScratch<T>& scratch) const {
        const std::size_t k = projection == Projection::down ? layout_.d_model : layout_.d_ff;
        const auto gather = [&](std::size_t i, std::size_t first, std::size_t depth, T* block) {
            gather_(source_, projection, e, (panels.first + i) * Panel<T>::width, first, depth, block);
        };
        const auto locate = [&](std::size_t i, std::size_t first, std::size_t depth) {
            return FarBlock{locate_(source_, projection, e, (panels.first + i) * Panel<T>::width, first, depth)};
        };
        multiply_gathered<T>(rows, k, panels.count, scratch, {gather, locate});
    }

    void differentiate(const HiddenStrip<T>& strip) const { differentiate_(source_, strip); }

private:
    template <class Base>
    static const LoraAdapters<T>* adapters_of(const LoraExperts<Base>& source) {
        return &source.adapters();
    }
    template <class S>
    static const LoraAdapters<T>* adapters_of(const S&) {
        return nullptr;
    }

    template <class F, class Form>
    static void multiply_hidden(const PackedExperts<F, Form>& source, std::size_t e, PanelRange panels, RowPointers x,
                                const PanelScratch<T>& scratch) {
        const PackedLayout<F>& layout = source.packed_layout();
        const std::size_t k = source.d_model();
        PackedPanel<F>::multiply(
            x, k, {source.data().data() + layout.hidden_panel(e, panels.first), panels.count, PackedPanel<F>::bytes(k)},
            scratch, Compute::exact);
    }
    template <class Base>
    static void multiply_hidden(const LoraExperts<Base>& source, std::size_t e, PanelRange panels, RowPointers x,
                                const PanelScratch<T>& scratch) {
        multiply_hidden(source.base(), e, panels, x, scratch);
        source.add_hidden(e, panels, x, scratch);
    }
    template <class S>
    static void multiply_hidden(const S& source, std::size_t e, PanelRange panels, RowPointers x,
                                const PanelScratch<T>& scratch) {
        source.multiply_hidden(e, panels, x, scratch);
    }

    template <class F, class Form>
    static void gather(const PackedExperts<F, Form>& source, Projection projection, std::size_t e,
                       std::size_t first_input, std::size_t first, std::size_t depth, T* block) {
        detail::gather_transposed(source, projection, e, first_input, first, depth, block);
    }
    template <class First, class Second>
    static void gather(const JoinedExperts<First, Second>& source, Projection projection, std::size_t e,
                       std::size_t first_input, std::size_t first, std::size_t depth, T* block) {
        static_assert(!detail::adapts<First> && !detail::adapts<Second>,
                      "the backward pass needs adapters around joined experts, LoraExperts{JoinedExperts{...}, ...}");
        const std::size_t n = source.first().n_experts();
        if (e < n) {
            gather(source.first(), projection, e, first_input, first, depth, block);
        } else {
            gather(source.second(), projection, e - n, first_input, first, depth, block);
        }
    }
    template <class Base>
    static void gather(const LoraExperts<Base>& source, Projection projection, std::size_t e, std::size_t first_input,
                       std::size_t first, std::size_t depth, T* block) {
        gather(source.base(), projection, e, first_input, first, depth, block);
    }
    template <class S>
    static void gather(const S& source, Projection projection, std::size_t e, std::size_t first_input,
                       std::size_t first, std::size_t depth, T* block) {
        static_assert(
            requires { source.weights(); },
            "the backward pass needs an ExpertBank, PackedExperts or JoinedExperts of these: a source of your "
            "own has no transposed panels");
        if constexpr (requires { source.weights(); }) {
            detail::gather_transposed(source.weights(), projection, e, first_input, first, depth, block);
        }
    }

    /// Where gather() reads; of packed panels, which lie together, it does not matter.
    template <class First, class Second>
    static FarRows locate(const JoinedExperts<First, Second>& source, Projection projection, std::size_t e,
                          std::size_t first_input, std::size_t first, std::size_t depth) {
        const std::size_t n = source.first().n_experts();
        return e < n ? locate(source.first(), projection, e, first_input, first, depth)
                     : locate(source.second(), projection, e - n, first_input, first, depth);
    }
    template <class Base>
    static FarRows locate(const LoraExperts<Base>& source, Projection projection, std::size_t e,
                          std::size_t first_input, std::size_t first, std::size_t depth) {
        return locate(source.base(), projection, e, first_input, first, depth);
    }
    template <class S>
    static FarRows locate(const S& source, Projection projection, std::size_t e, std::size_t first_input,
                          std::size_t first, std::size_t depth) {
        if constexpr (requires { source.weights().up.transposed_block(e, first_input, depth); }) {
            return far_rows(detail::transposed_block(source.weights(), projection, e, first_input), first, depth);
        } else {
            return {};
        }
    }

    const void* source_ = nullptr;
    std::size_t n_experts_ = 0;
    PanelLayout<T> layout_;
    const LoraAdapters<T>* adapters_ = nullptr;
    void (*hidden_)(const void*, std::size_t, PanelRange, RowPointers, const PanelScratch<T>&) = nullptr;
    void (*hidden_bias_)(const void*, std::size_t, std::size_t, T*) = nullptr;
    void (*output_bias_)(const void*, std::size_t, std::size_t, T*) = nullptr;
    void (*gather_)(const void*, Projection, std::size_t, std::size_t, std::size_t, std::size_t, T*) = nullptr;
    FarRows (*locate_)(const void*, Projection, std::size_t, std::size_t, std::size_t, std::size_t) = nullptr;
    void (*differentiate_)(const void*, const HiddenStrip<T>&) = nullptr;
};

}  // namespace moe::inline MOE_ABI
