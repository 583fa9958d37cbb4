#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "layer.hpp"

namespace moe::inline MOE_ABI::reference {

/// What the experts that a token did not go to give it, of Default MoE (2504.12463): the sum of softmax(l)_e m_e.
[[nodiscard]] inline Vector default_output(const Vector& logits, const std::vector<ExpertId>& chosen,
                                           const std::vector<Vector>& means) {
    const Vector p = softmax(logits);
    Vector y(means.front().size(), 0.0);
    for (std::size_t e = 0; e < p.size(); ++e) {
        if (std::find(chosen.begin(), chosen.end(), static_cast<ExpertId>(e)) == chosen.end()) {
            for (std::size_t i = 0; i < y.size(); ++i) {
                y[i] += p[e] * means[e][i];
            }
        }
    }
    return y;
}

/// The mean of an expert's outputs joins the one there is; nothing happens where it has no tokens.
[[nodiscard]] inline Vector moved_mean(const Expert& expert, const std::vector<Vector>& tokens, double decay,
                                       Vector mean) {
    for (double& m : mean) {
        m *= tokens.empty() ? 1 : decay;
    }
    for (const Vector& x : tokens) {
        const Vector y = run(expert, x);
        for (std::size_t i = 0; i < mean.size(); ++i) {
            mean[i] += (1 - decay) / static_cast<double>(tokens.size()) * y[i];
        }
    }
    return mean;
}

}  // namespace moe::inline MOE_ABI::reference
