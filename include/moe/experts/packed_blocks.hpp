#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "../core/borrowed.hpp"
#include "../core/workspace.hpp"
#include "../kernels/block_product.hpp"
#include "../parallel/executor.hpp"
#include "block_stack.hpp"
#include "expert_bank.hpp"
#include "packed_format.hpp"

namespace moe::inline MOE_ABI {

/// The matrices of a bank of experts in block formats, each in its own. Plain forms leave `gate` empty.
struct BlockWeights {
    BlockStack gate{};               ///< (n_experts, d_ff, d_model), empty for plain forms
    BlockStack up{};                 ///< (n_experts, d_ff, d_model)
    BlockStack down{};               ///< (n_experts, d_model, d_ff)
    WeightStack<float> gate_bias{};  ///< (n_experts, d_ff, 1) or empty
    WeightStack<float> up_bias{};    ///< (n_experts, d_ff, 1) or empty
    WeightStack<float> down_bias{};  ///< (n_experts, d_model, 1) or empty
};

/// Sizes of such a bank, and where its panels stand: expert after expert its hidden panels and its output panels, then
/// the biases of all.
class BlockLayout {
public:
    BlockLayout() = default;
    /// Throws what the constructor of PackedBlocks does.
    BlockLayout(bool gated, const BlockWeights& weights);

    [[nodiscard]] const PanelLayout<float>& panels() const noexcept { return panels_; }
    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_.get(); }
    [[nodiscard]] BlockPanels hidden() const noexcept { return hidden_; }
    [[nodiscard]] BlockPanels output() const noexcept { return output_; }
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_.get(); }

    [[nodiscard]] std::size_t hidden_panel(std::size_t e, std::size_t panel) const noexcept {
        return e * expert_bytes_ + panel * hidden_bytes_;
    }
    [[nodiscard]] std::size_t output_panel(std::size_t e, std::size_t panel) const noexcept {
        return e * expert_bytes_ + panels_.hidden_panels() * hidden_bytes_ + panel * output_bytes_;
    }
    [[nodiscard]] std::size_t hidden_bias(std::size_t e, std::size_t panel) const noexcept {
        return weight_bytes_ + (e * (panels_.hidden_panels() + panels_.output_panels()) + panel) * bias_bytes;
    }
    [[nodiscard]] std::size_t output_bias(std::size_t e, std::size_t panel) const noexcept {
        return hidden_bias(e, panels_.hidden_panels() + panel);
    }
    [[nodiscard]] std::size_t hidden_bytes() const noexcept { return hidden_bytes_; }
    [[nodiscard]] std::size_t output_bytes() const noexcept { return output_bytes_; }

private:
    static constexpr std::size_t bias_bytes = Panel<float>::width * sizeof(float);

    PanelLayout<float> panels_{};
    Emptied<std::size_t> n_experts_{};
    BlockPanels hidden_{};
    BlockPanels output_{};
    std::size_t hidden_bytes_ = 0;
    std::size_t output_bytes_ = 0;
    std::size_t expert_bytes_ = 0;
    std::size_t weight_bytes_ = 0;
    Emptied<std::size_t> bytes_{};
};

inline BlockLayout::BlockLayout(bool gated, const BlockWeights& weights)
    : panels_{weights.up.inputs(), weights.up.outputs(), gated}, n_experts_(weights.up.n_experts()) {
    const BlockStack& up = weights.up;
    ensure(!up.empty(), ErrorCode::missing, "PackedBlocks: the up projection is missing");
    ensure(!weights.down.empty(), ErrorCode::missing, "PackedBlocks: the down projection is missing");
    ensure(gated != weights.gate.empty(), ErrorCode::missing,
           gated ? "PackedBlocks: a gated form needs a gate projection, which is missing"
                 : "PackedBlocks: a plain form has no gate projection, but one was given");
    ensure(gated || weights.gate_bias.empty(), ErrorCode::missing,
           "PackedBlocks: a gate bias was given to a plain form");
    const auto confirm = [&](const char* name, const auto& stack, std::size_t outputs, std::size_t inputs) {
        ensure(stack.empty() ||
                   (stack.n_experts() == up.n_experts() && stack.outputs() == outputs && stack.inputs() == inputs),
               ErrorCode::shape, "PackedBlocks: ", name, " is ", stack.n_experts(), " x ", stack.outputs(), " x ",
               stack.inputs(), " but must be ", up.n_experts(), " x ", outputs, " x ", inputs, ", as up is ",
               up.n_experts(), " x ", up.outputs(), " x ", up.inputs());
    };
    confirm("gate", weights.gate, panels_.d_ff, panels_.d_model);
    confirm("down", weights.down, panels_.d_model, panels_.d_ff);
    confirm("gate bias", weights.gate_bias, panels_.d_ff, 1);
    confirm("up bias", weights.up_bias, panels_.d_ff, 1);
    confirm("down bias", weights.down_bias, panels_.d_model, 1);
    const bool mixed = gated && weights.gate.type().number != up.type().number;
    hidden_ = mixed ? BlockPanels() : BlockPanels(up.type());
    output_ = BlockPanels(weights.down.type());
    hidden_bytes_ = hidden_.bytes(panels_.d_model);
    output_bytes_ = output_.bytes(panels_.d_ff);
    expert_bytes_ = checked_add(checked_multiply(panels_.hidden_panels(), hidden_bytes_),
                                checked_multiply(panels_.output_panels(), output_bytes_));
    weight_bytes_ = checked_multiply(n_experts(), expert_bytes_);
    const std::size_t bias_rows = checked_multiply(n_experts(), panels_.hidden_panels() + panels_.output_panels());
    bytes_ = Emptied<std::size_t>(checked_add(weight_bytes_, checked_multiply(bias_rows, bias_bytes)));
}

namespace detail {

/// Columns [column, column + columns) of a panel from rows of `stack`, as many as there are from `first` on.
inline void pack_block_rows(const BlockPanels& form, const BlockStack& stack, std::size_t e, std::size_t first,
                            std::size_t column, std::size_t columns, std::byte* panel) {
    const std::size_t valid = (std::min)(columns, stack.outputs() - first);
    for (std::size_t c = 0; c < valid; ++c) {
        form.put_row(stack.type(), stack.row(e, first + c), stack.inputs(), column + c, panel);
    }
}

/// All panels and biases into `target`, on the workers of `executor`. Every weight is read and written once.
inline void pack_blocks(const BlockWeights& weights, const BlockLayout& layout, std::byte* target,
                        const ExecutorRef& executor) {
    const PanelLayout<float>& sizes = layout.panels();
    const std::size_t hidden = sizes.hidden_panels();
    const std::size_t panels = hidden + sizes.output_panels();
    const std::size_t columns = sizes.hidden_columns();
    TaskQueue queue;
    executor.run([&](std::size_t, std::size_t) {
        for (std::size_t task = queue.take(); task < layout.n_experts() * panels; task = queue.take()) {
            const std::size_t e = task / panels;
            const std::size_t panel = task % panels;
            const bool in_hidden = panel < hidden;
            const std::size_t output = in_hidden ? panel : panel - hidden;
            std::byte* const to =
                target + (in_hidden ? layout.hidden_panel(e, output) : layout.output_panel(e, output));
            std::fill_n(to, in_hidden ? layout.hidden_bytes() : layout.output_bytes(), std::byte{0});
            auto* const bias = reinterpret_cast<float*>(
                target + (in_hidden ? layout.hidden_bias(e, output) : layout.output_bias(e, output)));
            std::fill_n(bias, Panel<float>::width, 0.0F);
            if (in_hidden) {
                const std::size_t up_at = sizes.gated ? columns : 0;
                if (sizes.gated) {
                    pack_block_rows(layout.hidden(), weights.gate, e, output * columns, 0, columns, to);
                    gather_bias(weights.gate_bias, e, output * columns, columns, bias);
                }
                pack_block_rows(layout.hidden(), weights.up, e, output * columns, up_at, columns, to);
                gather_bias(weights.up_bias, e, output * columns, columns, bias + up_at);
            } else {
                constexpr std::size_t width = Panel<float>::width;
                pack_block_rows(layout.output(), weights.down, e, output * width, 0, width, to);
                gather_bias(weights.down_bias, e, output * width, width, bias);
            }
        }
    });
}

/// Throws Error(range) naming the first block of a stack whose scale or minimum is NaN or infinite.
inline void confirm_blocks(const char* name, const BlockStack& stack, const ExecutorRef& executor) {
    const std::size_t rows = stack.n_experts() * stack.outputs();
    constexpr std::size_t together = 64;
    std::atomic<std::size_t> first{rows};
    TaskQueue queue;
    executor.run([&](std::size_t, std::size_t) {
        for (std::size_t task = queue.take(); task * together < rows; task = queue.take()) {
            for (std::size_t r = task * together; r < (std::min)(rows, (task + 1) * together); ++r) {
                const std::byte* const row = stack.row(r / stack.outputs(), r % stack.outputs());
                if (BlockPanels::first_bad_block(stack.type(), row, stack.row_blocks()) == stack.row_blocks()) {
                    continue;
                }
                std::size_t known = first.load();
                while (r < known && !first.compare_exchange_weak(known, r)) {
                }
                break;
            }
        }
    });
    const std::size_t bad = first.load();
    if (bad < rows) {
        const std::byte* const row = stack.row(bad / stack.outputs(), bad % stack.outputs());
        raise_error(ErrorCode::range, "PackedBlocks: expert ", bad / stack.outputs(), ", ", name, " projection, row ",
                    bad % stack.outputs(), ", block ",
                    BlockPanels::first_bad_block(stack.type(), row, stack.row_blocks()), " of ", stack.type().name,
                    " has a scale or minimum that is no finite number");
    }
}

}  // namespace detail

/// A bank of experts packed from a checkpoint in ggml's block formats: codes and scales are moved into panels as they
/// are, nothing is quantised again. With Compute::exact it has the bits of products with the floats that the formats
/// decode to. Gate and up in one format make one kind of panels, in two formats panels of float32; down has its own.
/// Owns its memory, or works in memory of the caller; the blocks need not outlive it.
template <ExpertForm Form>
class PackedBlocks {
public:
    using element_type = float;
    using value_type = float;
    using form_type = Form;

    /// Bytes the panels take. Throws as the constructor does.
    [[nodiscard]] static std::size_t bytes_for(const Form& form, const BlockWeights& weights) {
        return BlockLayout(form.gated(), weights).bytes();
    }

    /// Packs on the workers of `executor`. Complexity: every block read twice and written once. Throws
    /// Error(missing, shape) where matrices are missing or do not fit, Error(range) naming expert, projection, row and
    /// block of a scale that is no finite number, or for a compute it has not; std::bad_alloc.
    template <Executor E = SerialExecutor>
    PackedBlocks(Form form, const BlockWeights& weights, const E& executor = {}, Compute compute = Compute::by_format)
        : PackedBlocks(form, weights, BlockLayout(form.gated(), weights), {}, true, ExecutorRef(executor), compute) {}

    /// The same into memory of the caller, at least bytes_for() bytes aligned to buffer_alignment, which must outlive
    /// this object. Throws Error(capacity, alignment).
    template <Executor E = SerialExecutor>
    PackedBlocks(Form form, const BlockWeights& weights, std::span<std::byte> memory, const E& executor = {},
                 Compute compute = Compute::by_format)
        : PackedBlocks(form, weights, BlockLayout(form.gated(), weights), memory, false, ExecutorRef(executor),
                       compute) {}

    /// The same experts in the same memory, which this object or the caller keeps, computed in another way. A temporary
    /// hands its memory over. Throws Error(range) as the constructors do.
    [[nodiscard]] PackedBlocks with_compute(Compute compute) const& { return {*this, compute}; }
    [[nodiscard]] PackedBlocks with_compute(Compute compute) && {
        confirm(resolved(compute));
        compute_ = resolved(compute);
        return std::move(*this);
    }

    [[nodiscard]] std::size_t n_experts() const noexcept { return layout_.n_experts(); }
    [[nodiscard]] std::size_t d_model() const noexcept { return layout().d_model; }
    [[nodiscard]] std::size_t d_ff() const noexcept { return layout().d_ff; }
    [[nodiscard]] const Form& form() const noexcept { return form_; }
    [[nodiscard]] const PanelLayout<float>& layout() const noexcept { return layout_.panels(); }
    [[nodiscard]] const BlockLayout& block_layout() const noexcept { return layout_; }
    [[nodiscard]] Compute compute() const noexcept { return compute_; }
    [[nodiscard]] std::span<const std::byte> data() const& noexcept { return {data_.get(), layout_.bytes()}; }
    std::span<const std::byte> data() const&& = delete;  // temporary: give the experts a name
    [[nodiscard]] std::size_t bytes() const noexcept { return layout_.bytes(); }

    /// The name of what of the weights has bytes in common with `memory`, or null.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        return overlaps(memory, bytes_of(data())) ? "the packed experts" : nullptr;
    }

    // PanelSource.

    [[nodiscard]] ActivationFormat<float> activations() const noexcept {
        return compute_ == Compute::int8   ? ActivationFormat<float>::codes(1)
               : compute_ == Compute::bf16 ? ActivationFormat<float>::bfloat16s()
                                           : ActivationFormat<float>{};
    }
    void multiply_hidden(std::size_t e, PanelRange panels, RowPointers rows, const PanelScratch<float>& scratch) const {
        multiply(layout_.hidden(), rows, d_model(),
                 {data_.get() + layout_.hidden_panel(e, panels.first), panels.count, layout_.hidden_bytes()}, scratch);
    }
    void multiply_output(std::size_t e, PanelRange panels, RowPointers rows, const PanelScratch<float>& scratch) const {
        multiply(layout_.output(), rows, d_ff(),
                 {data_.get() + layout_.output_panel(e, panels.first), panels.count, layout_.output_bytes()}, scratch);
    }
    void hidden_bias(std::size_t e, std::size_t panel, float* row) const noexcept {
        copy_bias(layout_.hidden_bias(e, panel), row);
    }
    void output_bias(std::size_t e, std::size_t panel, float* row) const noexcept {
        copy_bias(layout_.output_bias(e, panel), row);
    }

private:
    PackedBlocks(Form form, const BlockWeights& weights, const BlockLayout& layout, std::span<std::byte> memory,
                 bool own, const ExecutorRef& executor, Compute compute)
        : form_(form), layout_(layout), compute_(resolved(compute)) {
        moe::validate_form(form_);
        confirm(compute_);
        if (form.gated()) {
            detail::confirm_blocks("gate", weights.gate, executor);
        }
        detail::confirm_blocks("up", weights.up, executor);
        detail::confirm_blocks("down", weights.down, executor);
        if (own) {
            owned_ = AlignedBuffer(layout_.bytes());
            memory = {owned_.data(), owned_.size()};
        }
        ensure(memory.size() >= layout_.bytes(), ErrorCode::capacity, "PackedBlocks: ", layout_.bytes(),
               " bytes are needed, the memory given holds ", memory.size());
        ensure(reinterpret_cast<std::uintptr_t>(memory.data()) % buffer_alignment == 0, ErrorCode::alignment,
               "PackedBlocks: the memory must be aligned to ", buffer_alignment, " bytes");
        data_ = Emptied<const std::byte*>(memory.data());
        detail::pack_blocks(weights, layout_, memory.data(), executor);
    }

    /// Experts packed before, in memory that somebody else keeps.
    PackedBlocks(const PackedBlocks& other, Compute compute)
        : form_(other.form_), layout_(other.layout_), compute_(resolved(compute)), data_(other.data_) {
        confirm(compute_);
    }

    [[nodiscard]] bool has_codes() const noexcept {
        return layout_.hidden().has_codes() && layout_.output().has_codes();
    }

    /// The compute that `compute` stands for: integers where there are codes, unless told; bfloat16 only where the
    /// processor multiplies it.
    [[nodiscard]] Compute resolved(Compute compute) const noexcept {
        if (compute == Compute::by_format || compute == Compute::fastest) {
            return has_codes() ? Compute::int8 : Compute::exact;
        }
        return compute == Compute::bf16 ? moe::resolve_compute<bfloat16>(compute) : compute;
    }

    void confirm(Compute compute) const {
        ensure(compute == Compute::exact || compute == Compute::bf16 || (compute == Compute::int8 && has_codes()),
               ErrorCode::range, "PackedBlocks: compute ", static_cast<int>(compute), " is not one these blocks have",
               has_codes() ? "" : "; Compute::int8 needs codes in all projections, and gate and up of one format");
        ensure(compute != Compute::bf16 || !arch::MatrixUnit::present || arch::MatrixUnit::request(),
               ErrorCode::missing,
               "PackedBlocks: Compute::bf16 needs a matrix unit (AMX), which the system does not give this process");
    }

    void multiply(const BlockPanels& form, RowPointers rows, std::size_t k, const PackedPanels& panels,
                  const PanelScratch<float>& scratch) const {
        if (compute_ == Compute::bf16) {
            form.multiply_rounded(rows, k, panels, scratch);
        } else if (compute_ == Compute::int8) {
            form.multiply_integers(rows, k, panels, scratch);
        } else {
            form.multiply(rows, k, panels, scratch);
        }
    }

    void copy_bias(std::size_t offset, float* row) const noexcept {
        std::copy_n(reinterpret_cast<const float*>(data_.get() + offset), Panel<float>::width, row);
    }

    Form form_;
    BlockLayout layout_;
    Compute compute_;
    AlignedBuffer owned_;
    Emptied<const std::byte*> data_;
};

}  // namespace moe::inline MOE_ABI
