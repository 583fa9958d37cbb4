#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "../../core/emptied.hpp"
#include "../../core/workspace.hpp"
#include "../../gating/backward.hpp"
#include "../../gating/selection.hpp"
#include "../../layer/parts/layer_options.hpp"
#include "../../layer/parts/observer.hpp"
#include "../../layer/pass/pass_layer.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// Its address is a number of the type G.
template <class G>
inline constexpr char type_mark = 0;

}  // namespace detail

/// Whose forward pass a tape holds: a layer and the gate it had, both where they are, since a layer under another gate
/// shares all else with the layer itself.
struct TapeOwner {
    const void* layer = nullptr;
    const void* gate = nullptr;
    const void* gate_type = nullptr;

    bool operator==(const TapeOwner&) const = default;
};

/// Of a layer with a router, known by `layer`, what it shares with no other layer.
template <class RouterType>
[[nodiscard]] TapeOwner tape_owner(const void* layer, const RouterType& router) noexcept {
    return {layer, &router.gate(), &detail::type_mark<std::remove_cvref_t<decltype(router.gate())>>};
}

/// What of the experts a tape keeps.
enum class TapeKeeps : unsigned char {
    products,  ///< gate * x and up * x of every assignment: 2 top_k d_ff values a token, and those of shared experts
    routing,   ///< nothing: the backward pass makes these products again, a third more arithmetic for it
};

/// What a forward pass leaves for the backward pass: who went where, with which logits, and the products of the experts
/// with x. It views x and the router's input, which must live and stay as they are until then (an x that does not can
/// lie in its own memory, see input_memory), and keeps a copy of the rest in memory that it reuses. One tape a call in
/// flight. What is not kept, the backward pass makes again from x and the plan, with the same bits, and never routes
/// again. Products other than those of Compute::exact are not kept.
template <class T = float>
class Tape {
public:
    explicit Tape(TapeKeeps keeps = TapeKeeps::products) : keeps_(keeps) {}

    [[nodiscard]] TapeKeeps keeps() const noexcept { return keeps_; }

    /// False until a forward pass has filled it, and after the backward pass has used it.
    [[nodiscard]] bool recorded() const noexcept { return recorded_.get(); }

    /// True from the end of a backward pass on, until the next forward pass: d_weights() are whole then.
    [[nodiscard]] bool used_up() const noexcept { return used_up_.get(); }

    /// Whose forward pass this is.
    [[nodiscard]] const TapeOwner& owner() const noexcept { return owner_; }

    [[nodiscard]] PlanView<T> plan() const& noexcept { return plan_; }
    PlanView<T> plan() const&& = delete;  // temporary: give it a name, this is a view of it
    [[nodiscard]] MatrixView<const T> x() const& noexcept {
        return keeps_x_ ? view(input_.data(), x_.rows(), x_.cols()) : x_;  // a copy of a tape has memory of its own
    }
    MatrixView<const T> x() const&& = delete;  // temporary: give it a name, this may be a view of it
    [[nodiscard]] MatrixView<const T> router_input() const& noexcept {
        return router_input_.cols() == 0 ? x() : router_input_;
    }
    MatrixView<const T> router_input() const&& = delete;  // temporary: give it a name, this may be a view of it
    /// (rows, cols) of memory that the tape keeps and reuses, for an x that is nowhere else: write x there and give
    /// this to forward. What was recorded is void from then on.
    [[nodiscard]] MatrixView<T> input_memory(std::size_t rows, std::size_t cols) & {
        recorded_ = Emptied<bool>();
        used_up_ = Emptied<bool>();
        input_.resize(checked_multiply(rows, cols));
        return view(input_.data(), rows, cols);
    }
    /// (n_tokens, n_logits), without rows where the gate read none.
    [[nodiscard]] MatrixView<const T> logits() const& noexcept {
        return view(logits_.data(), n_logits_ == 0 ? 0 : x_.rows(), n_logits_);
    }
    MatrixView<const T> logits() const&& = delete;  // temporary: give it a name, this is a view of it
    /// The same shape: what is added to the gradients of the logits, by losses of the routing or by hand. Zero at
    /// first.
    [[nodiscard]] MatrixView<T> d_logits() & noexcept {
        return view(d_logits_.data(), n_logits_ == 0 ? 0 : x_.rows(), n_logits_);
    }
    /// (n_assignments) of the weights of the plan: what losses of the weights add before the backward pass, zero at
    /// first, and what they sum to once it is done, for whoever made the weights.
    [[nodiscard]] std::span<const T> d_weights() const& noexcept { return d_weights_; }
    [[nodiscard]] std::span<T> d_weights() & noexcept { return d_weights_; }
    std::span<const T> d_weights() const&& = delete;  // temporary: give it a name, this is a view of it
    /// (n_tokens, max_per_token) experts in the order the gate chose them, dropped ones included; no rows for given
    /// plans.
    [[nodiscard]] MatrixView<const ExpertId> choices() const& noexcept {
        return view(choices_.data(), max_per_token_ == 0 ? 0 : x_.rows(), max_per_token_);
    }
    MatrixView<const ExpertId> choices() const&& = delete;  // temporary: give it a name, this is a view of it
    /// (n_tokens) 0 for padding, or empty: all valid.
    [[nodiscard]] std::span<const std::uint8_t> valid() const& noexcept { return valid_; }
    std::span<const std::uint8_t> valid() const&& = delete;  // temporary: give it a name, this is a view of it
    /// The products that are kept, or nothing.
    [[nodiscard]] KeptProducts<const T> products() const& noexcept { return {kept_.routed, kept_.shared}; }
    KeptProducts<const T> products() const&& = delete;  // temporary: give it a name, this is a view of it
    /// What the gate chose for a token, as its backward pass is told. `lost` (max_per_token) is written: the experts it
    /// lost; it and `scratch` must outlive what is returned.
    [[nodiscard]] Chosen<T> chosen(std::size_t t, std::span<ExpertId> lost, std::span<T> scratch) const& noexcept {
        std::size_t n_lost = 0;
        for (const ExpertId e : choices().row_span(t)) {
            if (e < no_expert) {
                lost[n_lost++] = dropped(e);
            }
        }
        const PlanView<T> made = plan();
        const std::size_t first = made.token_offsets[t];
        const std::size_t count = made.token_offsets[t + 1] - first;
        return {made.experts.subspan(first, count), made.weights.subspan(first, count), lost.first(n_lost), context(t),
                scratch};
    }
    Chosen<T> chosen(std::size_t, std::span<ExpertId>,
                     std::span<T>) const&& = delete;  // temporary: this is a view of it
    /// What is to be added to the gradients of a token's logits.
    [[nodiscard]] std::span<const T> extra_of(std::size_t t) const noexcept {
        return std::span<const T>(d_logits_).subspan(t * n_logits_, n_logits_);
    }
    [[nodiscard]] bool is_valid(std::size_t t) const noexcept { return valid_.empty() || valid_[t] != 0; }
    [[nodiscard]] TokenContext context(std::size_t t) const noexcept {
        return {token_ids_.empty() ? -1 : token_ids_[t], positions_.empty() ? first_position_ + t : positions_[t]};
    }

private:
    template <class>
    friend class TapeRecorder;
    template <class>
    friend class BackwardPass;

    TapeKeeps keeps_;
    Emptied<bool> recorded_;
    Emptied<bool> used_up_;
    TapeOwner owner_;
    MatrixView<const T> x_;
    MatrixView<const T> router_input_;  ///< without columns: x
    bool keeps_x_ = false;              ///< x_ is that of `input_`
    std::vector<T> input_;
    RoutingPlan<T> plan_;
    std::size_t n_logits_ = 0;
    std::size_t max_per_token_ = 0;
    std::uint64_t first_position_ = 0;
    std::vector<T> logits_;
    std::vector<T> d_logits_;
    std::vector<T> d_weights_;
    std::vector<ExpertId> choices_;
    std::vector<std::uint8_t> valid_;
    std::vector<std::int32_t> token_ids_;
    std::vector<std::uint64_t> positions_;
    AlignedBuffer memory_;  ///< of the products: large, in huge pages, and not cleared
    KeptProducts<T> kept_;
};

/// Fills a tape while a pass runs, and tells the user's observer what it sees.
template <class T>
class TapeRecorder final : public Observer<T> {
public:
    /// `owner` is whose pass it watches; `parts`, which must outlive it, whose products are kept, or null: none.
    TapeRecorder(Tape<T>& tape, const TapeOwner& owner, MatrixView<const T> x, const ForwardOptions<T>& options,
                 const PassLayer<T>* parts = nullptr)
        : tape_(tape), next_(options.observer), parts_(parts) {
        tape_.recorded_ = Emptied<bool>();
        tape_.used_up_ = Emptied<bool>();
        tape_.kept_ = {};
        tape_.owner_ = owner;
        tape_.x_ = x;
        tape_.keeps_x_ = x.data() != nullptr && x.data() == tape_.input_.data();
        tape_.router_input_ = options.router_input;
        tape_.first_position_ = options.first_position;
        tape_.token_ids_.assign(options.token_ids.begin(), options.token_ids.end());
        tape_.positions_.assign(options.positions.begin(), options.positions.end());
    }
    TapeRecorder(const TapeRecorder&) = delete;
    TapeRecorder& operator=(const TapeRecorder&) = delete;

    void on_phase_begin(Phase phase) override {
        if (next_ != nullptr) {
            next_->on_phase_begin(phase);
        }
    }
    void on_phase_end(Phase phase) override {
        if (next_ != nullptr) {
            next_->on_phase_end(phase);
        }
    }
    void on_plan(const RoutingRecord<T>& record) override {
        keep(record);
        if (next_ != nullptr) {
            next_->on_plan(record);
        }
    }

    /// What on_plan keeps, where there is nobody to tell.
    void keep(const RoutingRecord<T>& record) {
        tape_.plan_.assign(record.plan);
        tape_.n_logits_ = record.logits.cols();
        tape_.logits_.resize(record.logits.rows() * record.logits.cols());
        for (std::size_t t = 0; t < record.logits.rows(); ++t) {
            std::copy_n(record.logits.row(t), tape_.n_logits_, tape_.logits_.data() + t * tape_.n_logits_);
        }
        tape_.d_logits_.assign(tape_.logits_.size(), T(0));
        tape_.d_weights_.assign(record.plan.n_assignments(), T(0));
        tape_.max_per_token_ = record.choices.rows() == 0 ? 0 : record.choices.cols();
        tape_.choices_.resize(record.choices.rows() * record.choices.cols());
        for (std::size_t t = 0; t < record.choices.rows(); ++t) {
            std::copy_n(record.choices.row(t), tape_.max_per_token_, tape_.choices_.data() + t * tape_.max_per_token_);
        }
        tape_.valid_.assign(record.valid.begin(), record.valid.end());
    }

    [[nodiscard]] KeptProducts<T> keep_products() override {
        if (parts_ == nullptr || tape_.keeps_ == TapeKeeps::routing) {
            return {};
        }
        const std::size_t n_real = parts_->experts.n_experts();
        const std::size_t n_routed = parts_->experts.exact() ? checked_multiply(tape_.plan().expert_offsets[n_real],
                                                                                parts_->experts.layout().kept_values())
                                                             : 0;
        std::size_t n_shared = 0;
        bool exact = true;
        for (std::size_t s = 0; s < parts_->shared.size(); ++s) {
            const ExpertsRef<T> shared = parts_->shared[s];
            exact = exact && shared.exact();
            n_shared = checked_add(n_shared, checked_multiply(tape_.x_.rows(), shared.layout().kept_values()));
        }
        n_shared = exact ? n_shared : 0;
        Arena measure;
        (void)measure.take<T>(checked_add(n_routed, n_shared));
        if (tape_.memory_.size() < measure.used()) {
            tape_.memory_ = AlignedBuffer();  // first, there may be no room for both
            tape_.memory_ = AlignedBuffer(measure.used());
        }
        Arena arena(tape_.memory_.data(), tape_.memory_.size());
        const std::span<T> values = arena.take<T>(n_routed + n_shared);
        tape_.kept_ = {values.first(n_routed), values.subspan(n_routed)};
        return tape_.kept_;
    }

    /// The pass has ended well.
    void finish() noexcept { tape_.recorded_ = Emptied<bool>(true); }

private:
    Tape<T>& tape_;
    Observer<T>* next_;
    const PassLayer<T>* parts_;
};

}  // namespace moe::inline MOE_ABI
