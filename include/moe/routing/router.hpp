#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "../core/matrix_view.hpp"
#include "../experts/ffn.hpp"
#include "../gating/diagnose.hpp"
#include "../gating/gate.hpp"
#include "../parallel/executor.hpp"
#include "plan.hpp"

namespace moe::inline MOE_ABI {

/// Rows whose product with a Linear may be cut along its inputs.
inline constexpr std::size_t few_linear_rows = 8;

/// rows * weights of one stack, panel by panel: what the router and the gates of shared experts need.
template <WeightElement W>
class Linear {
public:
    using T = ComputeType<W>;

    Linear() = default;

    /// weight (outputs, inputs), bias (outputs) or empty; both stay the user's.
    explicit Linear(WeightStack<W> weight, std::span<const W> bias = {}) : weight_(std::move(weight)), bias_(bias) {
        require(weight_.n_experts() == 1, ErrorCode::shape, "Linear: one matrix is expected, not a stack of ",
                weight_.n_experts());
        require(bias.empty() || bias.size() == weight_.outputs(), ErrorCode::shape, "Linear: ", bias.size(),
                " biases for ", weight_.outputs(), " outputs");
    }

    [[nodiscard]] bool empty() const noexcept { return weight_.empty(); }
    [[nodiscard]] std::size_t outputs() const noexcept { return weight_.outputs(); }
    [[nodiscard]] std::size_t inputs() const noexcept { return weight_.inputs(); }
    [[nodiscard]] std::size_t panels() const noexcept { return divide_up(outputs(), Panel<T>::width); }
    /// Whether the weights are panels of its own, or gathered from the user's memory at every use.
    [[nodiscard]] bool is_packed() const noexcept { return panels_ != nullptr; }

    /// y (n_rows, the outputs of some panels) = x (n_rows, inputs) * weight + bias, stored where these outputs stand in
    /// rows of `stride` that begin at `y`.
    void compute_panels(PanelRange panels, RowPointers x, T* y, std::size_t stride,
                        const PanelScratch<T>& scratch) const {
        if (panels_ != nullptr) {
            const std::size_t bytes = inputs() * Panel<T>::width * sizeof(W);
            multiply_packed<W>(x, inputs(), {panels_->data() + panels.first * bytes, panels.count, bytes}, scratch);
        } else {
            multiply_gathered<T>(x, inputs(), panels.count, scratch,
                                 [&](std::size_t i, std::size_t k, std::size_t depth, T* block) {
                                     detail::pack_columns(weight_, 0, (panels.first + i) * Panel<T>::width,
                                                          Panel<T>::width, k, depth, block);
                                 });
        }
        for (std::size_t i = 0; i < panels.count; ++i) {
            store_panel(panels.first + i, x.size(), scratch.sums_of(i, x.size()), y, stride);
        }
    }

    /// Parts of the same for up to few_linear_rows rows, when a panel is to be shared by several workers: the sums
    /// (n_rows, width) of each of the blocks [first, end) of Panel<T>::depth inputs of a panel, one behind the other.
    /// Only of packed weights.
    void compute_blocks(std::size_t panel, std::size_t first, std::size_t end, RowPointers x, T* sums,
                        const PanelScratch<T>& scratch) const {
        constexpr std::size_t width = Panel<T>::width;
        std::array<const std::byte*, few_linear_rows> rows{};
        const RowPointers part = RowPointers(rows).first(x.size());
        for (std::size_t b = first; b < end; ++b, sums += x.size() * width) {
            const std::size_t begin = b * Panel<T>::depth;
            const std::size_t depth = std::min(Panel<T>::depth, inputs() - begin);
            for (std::size_t r = 0; r < x.size(); ++r) {
                rows[r] = x[r] + begin * sizeof(T);
            }
            multiply_packed<W>(part, depth, {panels_->data() + (panel * inputs() + begin) * width * sizeof(W), 1, 0},
                               scratch);
            std::copy_n(scratch.sums.data(), x.size() * width, sums);
        }
    }

    /// y as compute_panels leaves it, from the sums of all `n_blocks` blocks of a panel: equal bits. Overwrites `sums`.
    void add_blocks(std::size_t panel, std::size_t n_blocks, std::size_t n_rows, T* sums, T* y,
                    std::size_t stride) const {
        const std::size_t size = n_rows * Panel<T>::width;
        for (std::size_t b = 1; b < n_blocks; ++b) {
            std::transform(sums, sums + size, sums + b * size, sums, std::plus<>{});
        }
        store_panel(panel, n_rows, sums, y, stride);
    }

    /// The same with its weights copied once into panels: equal bits, faster. Copies of it share the panels. Throws
    /// std::bad_alloc.
    [[nodiscard]] Linear packed(const ExecutorRef& executor) const {
        Linear result = *this;
        if (!empty()) {
            auto memory = std::make_shared<AlignedBuffer>(
                checked_multiply(checked_multiply(panels(), inputs()), Panel<T>::width * sizeof(W)));
            result.panels_ = memory;
            TaskQueue queue;
            executor.run([&](std::size_t, std::size_t) {
                for (std::size_t panel = queue.take(); panel < panels(); panel = queue.take()) {
                    detail::pack_columns(weight_, 0, panel * Panel<T>::width, Panel<T>::width, 0, inputs(),
                                         reinterpret_cast<W*>(memory->data()) + panel * inputs() * Panel<T>::width);
                }
            });
        }
        return result;
    }

private:
    /// Sums (n_rows, width) of a panel, with their biases, where they belong in y.
    void store_panel(std::size_t panel, std::size_t n_rows, const T* sums, T* y, std::size_t stride) const {
        const std::size_t first = panel * Panel<T>::width;
        const std::size_t columns = std::min(Panel<T>::width, outputs() - first);
        std::array<T, Panel<T>::width> bias{};
        for (std::size_t c = 0; c < columns && !bias_.empty(); ++c) {
            bias[c] = static_cast<T>(load_element(bias_.data() + first + c));
        }
        for (std::size_t r = 0; r < n_rows; ++r, sums += Panel<T>::width) {
            for (std::size_t c = 0; c < columns; ++c) {
                y[r * stride + first + c] = sums[c] + bias[c];
            }
        }
    }

    WeightStack<W> weight_;
    std::span<const W> bias_;
    std::shared_ptr<const AlignedBuffer> panels_;
};

/// Chooses the experts of each token: logits = weight * x + bias, then the gate. Weights are float, double, bfloat16 or
/// float16 (n_logits, d_model) in the user's memory, n_logits = n_experts for most gates; logits are computed in float,
/// in double for double weights. A gate that reads no logits needs no weights.
template <WeightElement W, class G>
class Router {
public:
    using element_type = W;
    using value_type = ComputeType<W>;
    using gate_type = G;

    static_assert(check_gate<G, value_type>());

    /// False for a type that is almost a gate: check_gate has then said what to type, and nothing else shall.
    static constexpr bool has_gate = Gate<G, value_type>;

    /// Throws Error: shapes that disagree, and whatever the gate's own validation refuses.
    Router(MatrixView<const W> weight, G gate) : Router(weight, {}, std::move(gate)) {}

    /// `bias` (n_logits), added to the logits; a bias that moves the choice alone belongs to the gate.
    Router(MatrixView<const W> weight, std::span<const W> bias, G gate)
        : Router(WeightStack<W>(weight.data(), 1, weight.rows(), weight.cols(), weight.stride(),
                                checked_multiply(weight.rows(), weight.stride())),
                 bias, std::move(gate)) {}

    /// Any storage order, as a stack of one matrix.
    Router(WeightStack<W> weight, G gate) : Router(std::move(weight), {}, std::move(gate)) {}
    Router(WeightStack<W> weight, std::span<const W> bias, G gate)
        : linear_(std::move(weight), bias), gate_(std::move(gate)) {
        if constexpr (has_gate) {
            n_experts_ = gate_n_experts(gate_, linear_.outputs());
        }
        check();
    }

    /// No weights, for a gate that needs no logits. Throws Error(missing) for any other.
    Router(std::size_t n_experts, G gate) : gate_(std::move(gate)), n_experts_(n_experts) {
        require(!has_logits(), ErrorCode::missing, "Router: this gate reads logits, so the router needs weights");
        check();
    }

    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_; }
    [[nodiscard]] const Linear<W>& linear() const noexcept { return linear_; }

    /// The same router with its weights copied into panels. Equal bits.
    template <Executor E = SerialExecutor>
    [[nodiscard]] Router packed(const E& executor = {}) const {
        Router result = *this;
        result.linear_ = linear_.packed(executor);
        return result;
    }
    [[nodiscard]] const G& gate() const noexcept { return gate_; }
    [[nodiscard]] bool has_logits() const {
        if constexpr (has_gate) {
            return needs_logits(gate_);
        } else {
            return true;
        }
    }

private:
    void check() const {
        if constexpr (has_gate) {
            validate_gate(gate_, n_experts_);
        }
    }

    Linear<W> linear_;
    G gate_;
    std::size_t n_experts_ = 0;
};

// The bias is left out of the deduction, so that a vector or an array of the weights' type may be given as one.
template <class W, class G>
Router(MatrixView<W>, G) -> Router<std::remove_const_t<W>, G>;
template <class W, class G>
Router(MatrixView<W>, std::type_identity_t<std::span<const std::remove_const_t<W>>>, G)
    -> Router<std::remove_const_t<W>, G>;
template <class W, class G>
Router(WeightStack<W>, G) -> Router<W, G>;
template <class W, class G>
Router(WeightStack<W>, std::type_identity_t<std::span<const W>>, G) -> Router<W, G>;
template <class G>
Router(std::size_t, G) -> Router<float, G>;

}  // namespace moe::inline MOE_ABI
