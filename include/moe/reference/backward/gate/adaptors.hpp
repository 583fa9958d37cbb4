#pragma once

#include <cstddef>
#include <vector>

#include "../../adaptors/capacity.hpp"
#include "../../adaptors/masked.hpp"
#include "../../adaptors/with_shared.hpp"
#include "../../adaptors/without_null.hpp"
#include "gate.hpp"

/// Adaptors take the gradient of the weights they give to that of the weights of the gate inside, which takes it on.
namespace moe::inline MOE_ABI::reference {

/// Of an adaptor that keeps some choices of a token (only_allowed, without_null): `before` is the choice of the gate
/// inside, `kept` says which are left, `d_weights` belongs to these. Those removed get 0.
[[nodiscard]] inline Vector kept_backward(const Choice& before, const std::vector<bool>& kept, bool renormalize,
                                          const Vector& d_weights) {
    Vector left;
    for (std::size_t slot = 0; slot < before.weights.size(); ++slot) {
        if (kept[slot]) {
            left.push_back(before.weights[slot]);
        }
    }
    const TokenChoiceRule by_sum{.norm = Norm::sum};
    const bool divided = renormalize && divisor(by_sum, left) > 0;
    const Vector d_left = divided ? normalized_backward(by_sum, left, d_weights) : d_weights;
    Vector d_before(before.weights.size(), 0.0);
    std::size_t next = 0;
    for (std::size_t slot = 0; slot < before.weights.size(); ++slot) {
        d_before[slot] = kept[slot] ? d_left[next++] : 0;
    }
    return d_before;
}

/// Of with_shared: one rule weighs the experts chosen and the shared ones together.
[[nodiscard]] inline Vector with_shared_backward(const TokenChoiceRule& rule, const Vector& logits,
                                                 const Choice& choice, const Vector& d_weights) {
    return gate_backward(rule_of_all(rule, logits.size()), logits, choice, d_weights);
}

/// Of normalized_after_drops: the gradient of the weights of the gate inside, of all choices of a token.
/// A dropped choice has no weight to the layer, so `d_weights` of it is not read; with `over_chosen` it was part
/// of the divisor all the same.
[[nodiscard]] inline Vector normalized_after_drops_backward(const TokenChoiceRule& rule, bool over_chosen,
                                                            const Choice& choice, const Vector& d_weights) {
    Vector counted;
    Vector d_counted;
    for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
        if (choice.experts[slot] >= 0 || over_chosen) {
            counted.push_back(choice.weights[slot]);
            d_counted.push_back(choice.experts[slot] >= 0 ? d_weights[slot] : 0);
        }
    }
    const Vector d_before = normalized_backward(rule, counted, d_counted);
    Vector d(choice.experts.size(), 0.0);
    std::size_t next = 0;
    for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
        d[slot] = choice.experts[slot] >= 0 || over_chosen ? d_before[next++] : 0;
    }
    return d;
}

/// The choice of the gate inside Capacity: dropped experts are themselves again.
[[nodiscard]] inline Choice before_drops(Choice choice) {
    for (ExpertId& e : choice.experts) {
        e = e < 0 ? dropped(e) : e;
    }
    return choice;
}

}  // namespace moe::inline MOE_ABI::reference
