#pragma once

#include <cstddef>
#include <vector>

#include "moe/experts/ffn.hpp"

namespace moe_test {

/// Every expert of `source` applied to every row of x: (n_experts, n_rows, d_model).
template <moe::PanelSource Source>
std::vector<typename Source::value_type> run_experts(const Source& source,
                                                     const std::vector<typename Source::value_type>& x) {
    using T = typename Source::value_type;
    const moe::PanelLayout<T> layout = source.layout();
    const std::size_t n_rows = x.size() / layout.d_model;
    moe::Arena measure;
    (void)moe::FfnScratch<T>::take(measure);
    moe::Workspace workspace;
    workspace.reserve(measure.used());
    moe::Arena arena = workspace.arena();
    const auto scratch = moe::FfnScratch<T>::take(arena);
    std::vector<T> hidden(n_rows * layout.hidden_stride());
    std::vector<T> y(source.n_experts() * n_rows * layout.d_model);
    std::vector<const T*> inputs;
    std::vector<const T*> hiddens;
    for (std::size_t r = 0; r < n_rows; ++r) {
        inputs.push_back(&x[r * layout.d_model]);
        hiddens.push_back(&hidden[r * layout.hidden_stride()]);
    }
    const auto one = [](std::size_t) { return T(1); };
    for (std::size_t e = 0; e < source.n_experts(); ++e) {
        for (std::size_t panel = 0; panel < layout.hidden_panels(); ++panel) {
            moe::compute_hidden(source, e, panel, std::span<const T* const>(inputs), one, hidden.data(),
                                layout.hidden_stride(), scratch);
        }
        for (std::size_t panel = 0; panel < layout.output_panels(); ++panel) {
            moe::add_output(
                source, e, panel, std::span<const T* const>(hiddens), one,
                [&](std::size_t r) { return e * n_rows + r; },
                moe::view(y.data(), source.n_experts() * n_rows, layout.d_model), scratch);
        }
    }
    return y;
}

}  // namespace moe_test
