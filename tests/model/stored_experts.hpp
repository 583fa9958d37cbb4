#pragma once

#include <cstddef>
#include <vector>

#include "moe/model/expert_weights.hpp"
#include "support/layer_cases.hpp"

namespace moe_test {

/// Random experts, each matrix (output, input), and the same in any storage order.
struct StoredExperts {
    std::size_t n = 0;
    std::size_t d_model = 0;
    std::size_t d_ff = 0;
    std::vector<float> gate{};  // empty where the form has none
    std::vector<float> up{};
    std::vector<float> down{};
    std::vector<float> gate_bias{};  // empty where there are none
    std::vector<float> up_bias{};
    std::vector<float> down_bias{};

    static StoredExperts random(Draw& draw, std::size_t n, std::size_t d_model, std::size_t d_ff, bool gated,
                                bool bias) {
        const std::size_t size = n * d_ff * d_model;
        return {n,
                d_model,
                d_ff,
                random_elements<float>(draw, gated ? size : 0, 1),
                random_elements<float>(draw, size, 1),
                random_elements<float>(draw, size, 1),
                random_elements<float>(draw, bias && gated ? n * d_ff : 0, 1),
                random_elements<float>(draw, bias ? n * d_ff : 0, 1),
                random_elements<float>(draw, bias ? n * d_model : 0, 1)};
    }
};

/// What a file of one storage order holds of them.
class StoredTensors {
public:
    StoredTensors(const StoredExperts& experts, const moe::StorageOrder& order) {
        const std::size_t n = experts.n;
        const std::size_t d = experts.d_model;
        const std::size_t d_ff = experts.d_ff;
        tensors_.down = keep(0, experts.down, n, d, d_ff, order.down_input_major);
        tensors_.down_bias = keep(1, experts.down_bias, n, d, 1, false);
        if (order.gate_up == moe::JoinedAs::separate) {
            tensors_.gate = keep(2, experts.gate, n, d_ff, d, order.up_input_major);
            tensors_.up = keep(3, experts.up, n, d_ff, d, order.up_input_major);
            tensors_.gate_bias = keep(4, experts.gate_bias, n, d_ff, 1, false);
            tensors_.up_bias = keep(5, experts.up_bias, n, d_ff, 1, false);
            return;
        }
        const bool interleaved = order.gate_up == moe::JoinedAs::interleaved;
        const auto both = [&](const std::vector<float>& gate, const std::vector<float>& up, std::size_t inputs) {
            std::vector<float> result(gate.size() + up.size());
            for (std::size_t i = 0; i < gate.size(); ++i) {
                const std::size_t e = i / (d_ff * inputs);
                const std::size_t row = i / inputs % d_ff;
                const std::size_t first = e * 2 * d_ff;
                result[(first + (interleaved ? 2 * row : row)) * inputs + i % inputs] = gate[i];
                result[(first + (interleaved ? 2 * row + 1 : d_ff + row)) * inputs + i % inputs] = up[i];
            }
            return result;
        };
        tensors_.gate_up = keep(2, both(experts.gate, experts.up, d), n, 2 * d_ff, d, order.up_input_major);
        tensors_.gate_up_bias = keep(3, both(experts.gate_bias, experts.up_bias, 1), n, 2 * d_ff, 1, false);
    }
    StoredTensors(const StoredTensors&) = delete;
    StoredTensors& operator=(const StoredTensors&) = delete;

    /// Over memory of this object.
    [[nodiscard]] const moe::StackedExperts<float>& tensors() const { return tensors_; }

private:
    /// A tensor of the shape it has in the file.
    moe::WeightStack<float> keep(std::size_t slot, const std::vector<float>& values, std::size_t n, std::size_t outputs,
                                 std::size_t inputs, bool input_major) {
        std::vector<float>& kept = memory_[slot];
        kept = values;
        if (values.empty()) {
            return {};
        }
        for (std::size_t i = 0; input_major && i < values.size(); ++i) {
            const std::size_t e = i / (outputs * inputs);
            kept[e * outputs * inputs + i % inputs * outputs + i / inputs % outputs] = values[i];
        }
        return moe::stacked<float>(kept.data(), n, input_major ? inputs : outputs, input_major ? outputs : inputs);
    }

    std::vector<float> memory_[6];
    moe::StackedExperts<float> tensors_;
};

}  // namespace moe_test
