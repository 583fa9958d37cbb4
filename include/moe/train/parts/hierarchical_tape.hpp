#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "../../layer/hierarchical_layer.hpp"
#include "trained.hpp"

namespace moe::inline MOE_ABI {

/// Where the gradients of a HierarchicalLayer are added; what is empty is not computed. `Group` is that of its groups.
template <class T, class Group = LayerGradients<T>>
struct HierarchicalGradients {
    MutableStack<T> router{};      ///< (1, n_logits, d_router)
    std::span<T> router_bias{};    ///< (n_logits)
    MatrixView<T> router_input{};  ///< (n_tokens, d_router), where a call gave one of its own
    std::vector<Group> groups{};   ///< one a group, or none
};

/// What a forward pass of a HierarchicalLayer leaves for the backward pass: the tape of its router and one of each
/// group, and of every token that went to a group what went in and came out: 3 d_model values a token and group, the
/// third for gradients on their way. `Group` is the tape of a group. As Tape it views x, reuses its memory, and serves
/// one call in flight.
template <class T, class Group = Tape<T>>
class HierarchicalTape {
public:
    HierarchicalTape() = default;
    // The tapes of the groups view memory of this one, which moves along.
    HierarchicalTape(HierarchicalTape&&) noexcept = default;
    HierarchicalTape& operator=(HierarchicalTape&&) noexcept = default;
    HierarchicalTape(const HierarchicalTape&) = delete;
    HierarchicalTape& operator=(const HierarchicalTape&) = delete;
    ~HierarchicalTape() = default;

    [[nodiscard]] bool recorded() const noexcept { return outer_.recorded(); }

    /// Of the router of the groups, whose experts they are: for losses of the routing.
    [[nodiscard]] Tape<T>& outer() & noexcept { return outer_; }
    [[nodiscard]] const Tape<T>& outer() const& noexcept { return outer_; }
    const Tape<T>& outer() const&& = delete;  // temporary: give it a name
    [[nodiscard]] std::size_t n_groups() const noexcept { return groups_.size(); }
    [[nodiscard]] Group& group(std::size_t g) & { return groups_[g]; }
    [[nodiscard]] const Group& group(std::size_t g) const& { return groups_[g]; }
    const Group& group(std::size_t g) const&& = delete;  // temporary: give it a name

private:
    template <class, class>
    friend class GroupRecorder;
    template <class, class>
    friend class GroupsBackward;

    [[nodiscard]] std::size_t n_rows(std::size_t g) const { return first_row_[g + 1] - first_row_[g]; }
    [[nodiscard]] std::span<const Index> tokens_of(std::size_t g) const {
        return std::span(tokens_).subspan(first_row_[g], n_rows(g));
    }
    /// The rows of group g of one of the three.
    [[nodiscard]] MatrixView<T> rows_of(std::vector<T>& values, std::size_t g) const {
        return view(values.data() + first_row_[g] * d_model_, n_rows(g), d_model_);
    }

    Tape<T> outer_;
    std::vector<Group> groups_;
    std::size_t d_model_ = 0;
    std::vector<std::size_t> first_row_;  // (n_groups + 1)
    std::vector<Index> tokens_;           // of each row, by group
    std::vector<T> weights_;
    std::vector<T> inputs_;    // (rows, d_model)
    std::vector<T> outputs_;   // the same; in the backward pass the gradients of outputs
    std::vector<T> d_inputs_;  // the same
    LayerGradients<T> of_router_;
};

template <class RouterType, class Group>
struct Trained<HierarchicalLayer<RouterType, Group>> {
    using tape = HierarchicalTape<typename Group::value_type, TapeOf<Group>>;
    using gradients = HierarchicalGradients<typename Group::value_type, GradientsOf<Group>>;
};

template <class T, class Group>
[[nodiscard]] bool overlaps(const HierarchicalGradients<T, Group>& to, const ByteView& memory) {
    return to.router.overlaps(memory) ||
           overlapped(memory, {{"", bytes_of(to.router_bias)}, {"", bytes_of(to.router_input)}}) != nullptr ||
           std::any_of(to.groups.begin(), to.groups.end(), [&](const Group& group) { return overlaps(group, memory); });
}

}  // namespace moe::inline MOE_ABI
