#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

#include "../../routing/router.hpp"

namespace moe::inline MOE_ABI {

/// How the shared experts join the routed sum.
enum class SharedMode : unsigned char {
    add,      ///< routed + sum of shared (DeepSeek)
    gated,    ///< routed + sum of sigmoid(gate . x) * shared (Qwen2-MoE)
    average,  ///< (routed + sum of shared) / 2 (Cohere2)
};

/// Experts every token goes to, beside the routed ones. Each is a bank of one expert with its own width. GateElement is
/// the storage type of the weights of their gate, where they have one.
template <PanelSource Bank, WeightElement GateElement = typename Bank::element_type>
class SharedExperts {
public:
    using bank_type = Bank;
    using element_type = GateElement;
    using value_type = typename Bank::value_type;

    /// None.
    SharedExperts() = default;

    /// One shared expert, or several of different widths, added or averaged.
    explicit SharedExperts(Bank expert, SharedMode mode = SharedMode::add)
        : SharedExperts(one(std::move(expert)), mode, {}) {}
    explicit SharedExperts(std::vector<Bank> experts, SharedMode mode = SharedMode::add)
        : SharedExperts(std::move(experts), mode, {}) {}

    /// One, gated: `gate` (1, d_model), as Qwen2-MoE has it.
    SharedExperts(Bank expert, WeightStack<element_type> gate)
        : SharedExperts(one(std::move(expert)), SharedMode::gated, Linear<element_type>(std::move(gate))) {}
    SharedExperts(Bank expert, MatrixView<const element_type> gate)
        : SharedExperts(std::move(expert),
                        WeightStack<element_type>(gate.data(), 1, gate.rows(), gate.cols(), gate.stride(),
                                                  checked_multiply(gate.rows(), gate.stride()))) {}

    /// Gated: `gate` (n_shared, d_model), one row a shared expert.
    SharedExperts(std::vector<Bank> experts, WeightStack<element_type> gate)
        : SharedExperts(std::move(experts), SharedMode::gated, Linear<element_type>(std::move(gate))) {}

    /// The most general form. Throws Error naming the shapes that disagree.
    SharedExperts(std::vector<Bank> experts, SharedMode mode, Linear<element_type> gate)
        : experts_(std::move(experts)), mode_(mode), gate_(std::move(gate)) {
        confirm();
    }

    [[nodiscard]] const std::vector<Bank>& experts() const& noexcept { return experts_; }
    [[nodiscard]] std::vector<Bank> experts() && { return std::move(experts_); }
    [[nodiscard]] SharedMode mode() const noexcept { return mode_; }
    [[nodiscard]] const Linear<element_type>& gate() const& noexcept { return gate_; }
    [[nodiscard]] Linear<element_type> gate() && { return std::move(gate_); }
    /// 0 where there are none.
    [[nodiscard]] std::size_t d_model() const noexcept {
        return experts_.empty() ? 0 : experts_.front().layout().d_model;
    }

    /// See PackedExperts::repack, of all of them, and Linear::repack of their gate.
    template <class Other>
    void repack(const SharedExperts<Other, GateElement>& from, const ExecutorRef& executor) {
        confirm_repack(from);
        for (std::size_t s = 0; s < experts_.size(); ++s) {
            experts_[s].repack(from.experts()[s], executor);
        }
        gate_.repack(from.gate(), executor);
    }
    template <class Other>
    void confirm_repack(const SharedExperts<Other, GateElement>& from) const {
        ensure(from.experts().size() == experts_.size(), ErrorCode::shape, "SharedExperts: ", from.experts().size(),
               " cannot take the place of ", experts_.size());
        for (std::size_t s = 0; s < experts_.size(); ++s) {
            experts_[s].confirm_repack(from.experts()[s]);
        }
        gate_.confirm_repack(from.gate());
    }

    /// What all of them take as rows; to be asked when there are any.
    [[nodiscard]] ActivationFormat<value_type> activations() const { return experts_.front().activations(); }

private:
    static std::vector<Bank> one(Bank expert) {
        std::vector<Bank> experts;
        experts.push_back(std::move(expert));  // a braced list would copy, and a packed bank cannot be copied
        return experts;
    }

    void confirm() const {
        ensure(mode_ <= SharedMode::average, ErrorCode::range, "SharedExperts: no mode has the number ",
               static_cast<int>(mode_));
        ensure(!experts_.empty(), ErrorCode::missing, "SharedExperts: an empty list of shared experts");
        for (const Bank& expert : experts_) {
            ensure(expert.n_experts() == 1, ErrorCode::shape,
                   "SharedExperts: each must be a bank of one expert, not of ", expert.n_experts());
            ensure(expert.layout().d_model == d_model(), ErrorCode::shape, "SharedExperts: d_model ",
                   expert.layout().d_model, " of one differs from ", d_model(), " of the first");
            ensure(expert.activations() == activations(), ErrorCode::range,
                   "SharedExperts: all must compute in the same way, exact, int8 or bf16");
        }
        ensure(gate_.empty() == (mode_ != SharedMode::gated), ErrorCode::missing,
               mode_ == SharedMode::gated ? "SharedExperts: gated shared experts need gate weights"
                                          : "SharedExperts: gate weights were given, but the mode is not gated");
        ensure(gate_.empty() || (gate_.outputs() == experts_.size() && gate_.inputs() == d_model()), ErrorCode::shape,
               "SharedExperts: the gate is ", gate_.outputs(), " x ", gate_.inputs(), " but there are ",
               experts_.size(), " shared experts of d_model ", d_model());
    }

    std::vector<Bank> experts_;
    SharedMode mode_ = SharedMode::add;
    Linear<element_type> gate_;
};

template <class Bank>
SharedExperts(Bank) -> SharedExperts<Bank>;
template <class Bank>
SharedExperts(Bank, SharedMode) -> SharedExperts<Bank>;
template <class Bank>
SharedExperts(std::vector<Bank>) -> SharedExperts<Bank>;
template <class Bank>
SharedExperts(std::vector<Bank>, SharedMode) -> SharedExperts<Bank>;
template <class Bank, class W>
SharedExperts(Bank, WeightStack<W>) -> SharedExperts<Bank, W>;
template <class Bank, class W>
SharedExperts(Bank, MatrixView<W>) -> SharedExperts<Bank, std::remove_const_t<W>>;
template <class Bank, class W>
SharedExperts(std::vector<Bank>, WeightStack<W>) -> SharedExperts<Bank, W>;

}  // namespace moe::inline MOE_ABI
