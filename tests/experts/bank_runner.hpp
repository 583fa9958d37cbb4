#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "moe/experts/experts_ref.hpp"

namespace moe_test {

template <class T>
std::vector<T> run_all(const moe::ExpertsRef<T>& source, const std::vector<T>& x) {
    const moe::PanelLayout<T> layout = source.layout();
    const std::size_t n_rows = x.size() / layout.d_model;
    const moe::ActivationFormat<T> format = source.activations();
    const std::size_t hidden_stride = format.hidden_stride(layout);
    const std::size_t input_stride = format.input_stride(layout);
    moe::Arena measure;
    (void)moe::PanelScratch<T>::take(measure);
    moe::Workspace workspace;
    workspace.reserve(measure.used());
    moe::Arena arena = workspace.arena();
    const auto scratch = moe::PanelScratch<T>::take(arena);
    std::vector<std::byte> encoded(n_rows * input_stride);
    std::vector<std::byte> hidden(n_rows * hidden_stride);
    std::vector<T> y(source.n_experts() * n_rows * layout.d_model);
    std::vector<const std::byte*> inputs;
    std::vector<const std::byte*> hiddens;
    for (std::size_t r = 0; r < n_rows; ++r) {
        inputs.push_back(reinterpret_cast<const std::byte*>(&x[r * layout.d_model]));
        if (format.encoded()) {
            format.encode_row(layout.d_model, &x[r * layout.d_model], &encoded[r * input_stride]);
            inputs.back() = &encoded[r * input_stride];
        }
        hiddens.push_back(&hidden[r * hidden_stride]);
    }
    constexpr std::size_t together = 3;
    for (std::size_t e = 0; e < source.n_experts(); ++e) {
        for (std::size_t panel = 0; panel < layout.hidden_panels(); panel += together) {
            source.compute_hidden(e, {panel, std::min(together, layout.hidden_panels() - panel)}, inputs, {},
                                  hidden.data(), hidden_stride, scratch);
        }
        std::vector<T*> outputs;
        for (std::size_t r = 0; r < n_rows; ++r) {
            outputs.push_back(&y[(e * n_rows + r) * layout.d_model]);
        }
        for (std::size_t panel = 0; panel < layout.output_panels(); panel += together) {
            source.add_output(e, {panel, std::min(together, layout.output_panels() - panel)}, hiddens, {}, outputs,
                              scratch);
        }
    }
    return y;
}

/// Every expert of `source` applied to every row of x: (n_experts, n_rows, d_model).
template <moe::PanelSource Source>
std::vector<typename Source::value_type> run_experts(const Source& source,
                                                     const std::vector<typename Source::value_type>& x) {
    return run_all(moe::ExpertsRef<typename Source::value_type>(source), x);
}

}  // namespace moe_test
