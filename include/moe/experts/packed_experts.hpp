#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "../core/borrowed.hpp"
#include "../core/workspace.hpp"
#include "../parallel/executor.hpp"
#include "encoded_bank.hpp"
#include "expert_bank.hpp"
#include "packed_format.hpp"

namespace moe::inline MOE_ABI {

/// How the experts of packed memory follow each other.
enum class PackedOrder : unsigned char {
    together,  ///< expert behind expert, then the biases of all: no byte between them
    apart,     ///< each with its biases from a multiple of packed_expert_alignment on, in one piece: an expert that is
               ///< not in memory is one read
};

/// Bytes between which experts that lie apart begin: a huge page.
inline constexpr std::size_t packed_expert_alignment = std::size_t{1} << 21U;

/// Sizes of a bank, and where its panels stand in packed memory: of each expert its hidden panels, then its output
/// panels; the biases behind all experts or, where these lie apart, behind each. The same on every processor with the
/// same byte order.
template <PackedFormat F>
class PackedLayout {
public:
    using value_type = typename PackedPanel<F>::value_type;

    /// Throws Error(overflow).
    PackedLayout(const PanelLayout<value_type>& panels, std::size_t n_experts,
                 PackedOrder order = PackedOrder::together)
        : panels_(panels),
          n_experts_(n_experts),
          order_(order),
          hidden_bytes_(PackedPanel<F>::bytes(panels.d_model)),
          output_bytes_(PackedPanel<F>::bytes(panels.d_ff)),
          weight_bytes_(checked_add(checked_multiply(panels.hidden_panels(), hidden_bytes_),
                                    checked_multiply(panels.output_panels(), output_bytes_))),
          bias_bytes_(checked_multiply(checked_add(panels.hidden_panels(), panels.output_panels()), panel_row_bytes)) {
        if (order == PackedOrder::together || n_experts == 0) {
            stride_ = weight_bytes_;
            bias_stride_ = bias_bytes_;
            first_bias_ = checked_multiply(n_experts, weight_bytes_);
            bytes_ = Emptied<std::size_t>(checked_add(first_bias_, checked_multiply(n_experts, bias_bytes_)));
        } else {
            const std::size_t whole = checked_add(weight_bytes_, bias_bytes_);
            stride_ = checked_multiply(divide_up(whole, packed_expert_alignment), packed_expert_alignment);
            bias_stride_ = stride_;
            first_bias_ = weight_bytes_;
            bytes_ = Emptied<std::size_t>(checked_add(checked_multiply(n_experts - 1, stride_), whole));
        }
    }

    [[nodiscard]] const PanelLayout<value_type>& panels() const noexcept { return panels_; }
    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_.get(); }
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_.get(); }
    [[nodiscard]] PackedOrder order() const noexcept { return order_; }

    [[nodiscard]] std::size_t hidden_panel(std::size_t e, std::size_t panel) const noexcept {
        return e * stride_ + panel * hidden_bytes_;
    }
    [[nodiscard]] std::size_t output_panel(std::size_t e, std::size_t panel) const noexcept {
        return e * stride_ + panels_.hidden_panels() * hidden_bytes_ + panel * output_bytes_;
    }
    [[nodiscard]] std::size_t hidden_bias(std::size_t e, std::size_t panel) const noexcept {
        return first_bias_ + e * bias_stride_ + panel * panel_row_bytes;
    }
    [[nodiscard]] std::size_t output_bias(std::size_t e, std::size_t panel) const noexcept {
        return hidden_bias(e, panels_.hidden_panels() + panel);
    }

    /// Of one expert: all its panels, which begin at hidden_panel(e, 0), and all its biases, at hidden_bias(e, 0).
    /// Where experts lie apart the biases follow the panels.
    [[nodiscard]] std::size_t weight_bytes() const noexcept { return weight_bytes_; }
    [[nodiscard]] std::size_t bias_bytes() const noexcept { return bias_bytes_; }
    /// From one expert to the next.
    [[nodiscard]] std::size_t expert_stride() const noexcept { return stride_; }

private:
    static constexpr std::size_t panel_row_bytes = Panel<value_type>::width * sizeof(value_type);

    PanelLayout<value_type> panels_;
    Emptied<std::size_t> n_experts_;
    PackedOrder order_;
    std::size_t hidden_bytes_;
    std::size_t output_bytes_;
    std::size_t weight_bytes_;
    std::size_t bias_bytes_;
    std::size_t stride_ = 0;
    std::size_t bias_stride_ = 0;
    std::size_t first_bias_ = 0;
    Emptied<std::size_t> bytes_;
};

namespace detail {

/// A panel of `k` inputs, from what gather(first, depth, block) finds of it.
template <PackedFormat F, WeightElement W, class Gather>
void pack_panel(std::size_t k, std::byte* target, Gather&& gather) {
    using T = ComputeType<W>;
    if constexpr (std::is_same_v<F, W> || std::is_same_v<F, T>) {
        gather(0, k, reinterpret_cast<F*>(target));
    } else {
        constexpr std::size_t most = 8 * quantization_group;  // the largest blocks of encoded weights are decoded once
        std::array<T, most * Panel<T>::width> block;
        for (std::size_t first = 0; first < k; first += most) {
            const std::size_t depth = (std::min)(most, k - first);
            gather(first, depth, block.data());
            PackedPanel<F>::encode(block.data(), first, depth, target);
        }
    }
}

/// All panels and biases of a bank into `target`, on the workers of `executor`. Every weight is read and written once.
template <PackedFormat F, class Weights>
void pack_experts(const Weights& weights, const PackedLayout<F>& layout, std::byte* target,
                  const ExecutorRef& executor) {
    using W = typename Weights::element_type;
    using T = ComputeType<W>;
    const std::size_t hidden = layout.panels().hidden_panels();
    const std::size_t panels = hidden + layout.panels().output_panels();
    TaskQueue queue;
    executor.run([&](std::size_t, std::size_t) {
        for (std::size_t task = queue.take(); task < layout.n_experts() * panels; task = queue.take()) {
            const std::size_t e = task / panels;
            const std::size_t panel = task % panels;
            if (panel < hidden) {
                pack_panel<F, W>(layout.panels().d_model, target + layout.hidden_panel(e, panel),
                                 [&](std::size_t first, std::size_t depth, auto* block) {
                                     gather_hidden(weights, e, panel, first, depth, block);
                                 });
                gather_hidden_bias(weights, e, panel, reinterpret_cast<T*>(target + layout.hidden_bias(e, panel)));
            } else {
                const std::size_t output = panel - hidden;
                pack_panel<F, W>(layout.panels().d_ff, target + layout.output_panel(e, output),
                                 [&](std::size_t first, std::size_t depth, auto* block) {
                                     gather_output(weights, e, output, first, depth, block);
                                 });
                gather_output_bias(weights, e, output, reinterpret_cast<T*>(target + layout.output_bias(e, output)));
            }
        }
    });
}

}  // namespace detail

/// A bank whose weights can be packed: an ExpertBank or an EncodedBank.
template <class B, class Form>
concept PackableBank = std::same_as<typename B::form_type, Form> && requires(const B& bank) {
    requires WeightElement<typename std::remove_cvref_t<decltype(bank.weights())>::element_type>;
    { bank.layout() } -> std::convertible_to<PanelLayout<typename B::value_type>>;
};
template <class B>
concept AnyPackableBank = requires {
    typename B::form_type;
}
&&PackableBank<B, typename B::form_type>;

/// A bank of experts copied once into panels of format F: float, double, bfloat16, float16, Int8 or Int4. Experts of
/// the format of their source have, with Compute::exact, the bits of the bank they were made from; wider sources are
/// rounded (16 bits) or quantised in groups of 32 (formats/quantized.hpp). Owns its memory, or works in memory of the
/// caller.
template <PackedFormat F, ExpertForm Form>
class PackedExperts {
public:
    using format_type = F;
    using element_type = typename PackedPanel<F>::element_type;  ///< of what is kept beside it, like a gate
    using value_type = typename PackedPanel<F>::value_type;
    using form_type = Form;

    /// Bytes the packed form of `bank` takes: about the size of the weights in F, with d_ff and d_model rounded up to
    /// whole panels. Throws Error(overflow).
    template <PackableBank<Form> Bank>
    [[nodiscard]] static std::size_t bytes_for(const Bank& bank) {
        return PackedLayout<F>(bank.layout(), bank.n_experts()).bytes();
    }

    /// Packs on the workers of `executor`. Large banks are put in huge pages where the system has them. Complexity:
    /// every weight read and written once. Throws std::bad_alloc, Error(range) for a compute the format has not.
    template <PackableBank<Form> Bank, Executor E = SerialExecutor>
    explicit PackedExperts(const Bank& bank, const E& executor = {}, Compute compute = Compute::by_format)
        : PackedExperts(bank, AlignedBuffer(bytes_for(bank)), {}, ExecutorRef(executor), compute) {}

    /// The same into memory of the caller, at least bytes_for(bank) bytes aligned to buffer_alignment, which must
    /// outlive this object. Throws Error(capacity, alignment).
    template <PackableBank<Form> Bank, Executor E = SerialExecutor>
    PackedExperts(const Bank& bank, std::span<std::byte> memory, const E& executor = {},
                  Compute compute = Compute::by_format)
        : PackedExperts(bank, AlignedBuffer(), memory, ExecutorRef(executor), compute) {}

    /// Experts packed before, in memory that must outlive this object (a mapped file): nothing is copied. Throws
    /// Error(capacity) when `packed` is shorter than the layout says, Error(alignment), Error(shape) when the layout is
    /// of gated experts and the form is not or the reverse, and whatever the form's own validation refuses.
    PackedExperts(Form form, const PackedLayout<F>& layout, Borrowed<const std::byte> packed,
                  Compute compute = Compute::by_format)
        : form_(form), layout_(layout), compute_(moe::resolve_compute<F>(compute)), data_(packed.data()) {
        moe::validate_form(form_);
        ensure(form_.gated() == this->layout().gated, ErrorCode::shape, "PackedExperts: the experts were packed as ",
               this->layout().gated ? "gated" : "plain", " ones, the form is ", form_.gated() ? "gated" : "plain");
        check_memory(packed.data(), packed.size());
        confirm();
    }

    /// The same experts in the same memory, which this object or the caller keeps, computed in another way: one of the
    /// two for few tokens, the other for many. A temporary hands its memory over. Throws as the constructors do.
    [[nodiscard]] PackedExperts with_compute(Compute compute) const& { return {form_, layout_, data(), compute}; }
    [[nodiscard]] PackedExperts with_compute(Compute compute) && {
        (void)std::as_const(*this).with_compute(compute);  // throws before anything is handed over
        compute_ = moe::resolve_compute<F>(compute);
        return std::move(*this);
    }

    /// Packs the weights of `bank` as they are now in place of those these were packed from, for training: the bytes
    /// of a PackedExperts made anew, without its allocation. Form and compute stay. No call may use the experts
    /// meanwhile, nor others in the same memory. Throws as confirm_repack does, before anything is written.
    template <PackableBank<Form> Bank, Executor E = SerialExecutor>
    void repack(const Bank& bank, const E& executor = {}) {
        confirm_repack(bank);
        detail::pack_experts(bank.weights(), layout_, target_.get(), ExecutorRef(executor));
    }

    /// Throws Error(shape) where the bank has other sizes, Error(state) where these were not packed by this object.
    template <PackableBank<Form> Bank>
    void confirm_repack(const Bank& bank) const {
        static_assert(std::is_same_v<typename Bank::value_type, value_type>,
                      "double weights can only be packed as double, all others as anything else");
        ensure(bank.n_experts() == n_experts() && bank.layout().d_ff == d_ff() && bank.layout().d_model == d_model() &&
                   bank.layout().gated == layout().gated,
               ErrorCode::shape, "PackedExperts: ", bank.n_experts(), " experts of ", bank.layout().d_ff, " x ",
               bank.layout().d_model, " cannot take the place of ", n_experts(), " of ", d_ff(), " x ", d_model());
        ensure(target_.get() != nullptr, ErrorCode::state,
               "PackedExperts: these view what was packed elsewhere, only where it was packed can it be made anew");
    }

    [[nodiscard]] std::size_t n_experts() const noexcept { return layout_.n_experts(); }
    [[nodiscard]] std::size_t d_model() const noexcept { return layout().d_model; }
    [[nodiscard]] std::size_t d_ff() const noexcept { return layout().d_ff; }
    [[nodiscard]] const Form& form() const noexcept { return form_; }
    [[nodiscard]] const PanelLayout<value_type>& layout() const noexcept { return layout_.panels(); }
    [[nodiscard]] const PackedLayout<F>& packed_layout() const noexcept { return layout_; }
    [[nodiscard]] Compute compute() const noexcept { return compute_; }

    /// The packed weights, for writing to a file.
    [[nodiscard]] std::span<const std::byte> data() const& noexcept { return {data_.get(), layout_.bytes()}; }
    std::span<const std::byte> data() const&& = delete;  // temporary: give the experts a name
    [[nodiscard]] std::size_t bytes() const noexcept { return layout_.bytes(); }

    /// The name of what of the weights has bytes in common with `memory`, or null.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        return overlaps(memory, bytes_of(data())) ? "the packed experts" : nullptr;
    }

    // PanelSource.

    [[nodiscard]] ActivationFormat<value_type> activations() const noexcept {
        if constexpr (QuantizedFormat<F>) {
            if (compute_ == Compute::int8) {
                return ActivationFormat<value_type>::codes(F::zero_point);
            }
        }
        return MOE_BFLOAT16_PRODUCTS && compute_ == Compute::bf16 ? ActivationFormat<value_type>::bfloat16s()
                                                                  : ActivationFormat<value_type>{};
    }
    void multiply_hidden(std::size_t e, PanelRange panels, RowPointers rows,
                         const PanelScratch<value_type>& scratch) const {
        multiply(rows, d_model(), layout_.hidden_panel(e, panels.first), panels.count, scratch);
    }
    void multiply_output(std::size_t e, PanelRange panels, RowPointers rows,
                         const PanelScratch<value_type>& scratch) const {
        multiply(rows, d_ff(), layout_.output_panel(e, panels.first), panels.count, scratch);
    }
    void hidden_bias(std::size_t e, std::size_t panel, value_type* row) const noexcept {
        copy_bias(layout_.hidden_bias(e, panel), row);
    }
    void output_bias(std::size_t e, std::size_t panel, value_type* row) const noexcept {
        copy_bias(layout_.output_bias(e, panel), row);
    }

private:
    static constexpr std::size_t width = Panel<value_type>::width;

    template <PackableBank<Form> Bank>
    PackedExperts(const Bank& bank, AlignedBuffer owned, std::span<std::byte> memory, const ExecutorRef& executor,
                  Compute compute)
        : form_(bank.form()),
          layout_(bank.layout(), bank.n_experts()),
          compute_(moe::resolve_compute<F>(compute)),
          owned_(std::move(owned)) {
        ensure(bank.n_experts() > 0, ErrorCode::state, "PackedExperts: the bank to be packed was moved from");
        static_assert(std::is_same_v<typename Bank::value_type, value_type>,
                      "double weights can only be packed as double, all others as anything else");
        std::byte* const target = owned_.size() > 0 ? owned_.data() : memory.data();
        check_memory(target, owned_.size() > 0 ? owned_.size() : memory.size());
        confirm();
        data_ = Emptied<const std::byte*>(target);
        target_ = Emptied<std::byte*>(target);
        detail::pack_experts(bank.weights(), layout_, target, executor);
    }

    void confirm() const {
        constexpr bool splits = std::is_same_v<F, bfloat16>;
        ensure(compute_ == Compute::exact || (compute_ == Compute::int8 && QuantizedFormat<F>) ||
                   (compute_ == Compute::bf16x3 && splits) || (compute_ == Compute::bf16 && packs_bfloat16<F>),
               ErrorCode::range, "PackedExperts: compute ", static_cast<int>(compute_), " is not one this format has",
               QuantizedFormat<F> ? "" : "; only Int8 and Int4 have Compute::int8",
               splits ? "" : "; only bfloat16 has Compute::bf16x3",
               packs_bfloat16<F> ? "" : "; floats have Compute::bf16 when they are packed as bfloat16");
        const bool on_unit = compute_ == Compute::bf16x3 || (compute_ == Compute::bf16 && arch::MatrixUnit::present);
        ensure(
            !on_unit || arch::MatrixUnit::request(), ErrorCode::missing,
            "PackedExperts: Compute::", compute_ == Compute::bf16 ? "bf16" : "bf16x3",
            " needs a matrix unit (AMX), which ",
            arch::MatrixUnit::present ? "the system does not give this process" : "this program was not compiled for");
    }
    void check_memory(const std::byte* data, std::size_t size) const {
        ensure(size >= layout_.bytes(), ErrorCode::capacity, "PackedExperts: ", layout_.bytes(),
               " bytes are needed, the memory given holds ", size);
        ensure(reinterpret_cast<std::uintptr_t>(data) % buffer_alignment == 0, ErrorCode::alignment,
               "PackedExperts: the memory must be aligned to ", buffer_alignment, " bytes");
    }

    void multiply(RowPointers rows, std::size_t k, std::size_t offset, std::size_t n_panels,
                  const PanelScratch<value_type>& scratch) const {
        PackedPanel<F>::multiply(rows, k, {data_.get() + offset, n_panels, PackedPanel<F>::bytes(k)}, scratch,
                                 compute_);
    }

    void copy_bias(std::size_t offset, value_type* row) const noexcept {
        std::copy_n(reinterpret_cast<const value_type*>(data_.get() + offset), width, row);
    }

    Form form_;
    PackedLayout<F> layout_;
    Compute compute_;
    AlignedBuffer owned_;
    Emptied<const std::byte*> data_;
    Emptied<std::byte*> target_;  ///< the same where this object packed it, and may again
};

// In the storage type of the bank, encoded ones in float, unless another format is named.
template <AnyPackableBank Bank>
PackedExperts(const Bank&) -> PackedExperts<typename Bank::element_type, typename Bank::form_type>;
template <AnyPackableBank Bank, class E>
PackedExperts(const Bank&, const E&) -> PackedExperts<typename Bank::element_type, typename Bank::form_type>;

}  // namespace moe::inline MOE_ABI
