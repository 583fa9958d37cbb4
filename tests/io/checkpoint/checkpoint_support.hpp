#pragma once

#include <cmath>
#include <cstddef>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <moe/io.hpp>
#include <moe/moe.hpp>

#include "io/support.hpp"
#include "model/stored_experts.hpp"
#include "support/compare.hpp"

/// Checkpoints made up by tests: small values that every float type holds exactly.
namespace moe_test::checkpoint {

inline std::vector<float> values(Draw& draw, std::size_t count) {
    std::vector<float> result = random_elements<float>(draw, count, 1);
    for (float& value : result) {
        value = std::round(value * 32) / 32;
    }
    return result;
}

/// Tensors to be written, as elements of `dtype`.
class MadeTensors {
public:
    void add(const std::string& name, std::vector<std::size_t> shape, std::span<const float> data,
             moe::DType dtype = moe::DType::f32) {
        std::vector<std::byte>& bytes = memory_.emplace_back(data.size() * moe::dtype_size(dtype));
        for (std::size_t i = 0; i < data.size(); ++i) {
            if (dtype == moe::DType::f32) {
                put(bytes, i, data[i]);
            } else if (dtype == moe::DType::bf16) {
                put(bytes, i, moe::to_bfloat16(data[i]));
            } else {
                put(bytes, i, moe::to_float16(data[i]));
            }
        }
        tensors.push_back({name, dtype, std::move(shape), bytes});
    }

    std::vector<moe::TensorToWrite> tensors;

private:
    template <class T>
    static void put(std::vector<std::byte>& bytes, std::size_t i, T value) {
        std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
    }

    std::deque<std::vector<std::byte>> memory_;
};

inline void write_text(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
}

/// The object of these keys; values are JSON.
inline std::string json_of(const std::map<std::string, std::string>& keys) {
    std::string text = "{";
    for (const auto& [key, value] : keys) {
        text += (text.size() > 1 ? ",\"" : "\"") + key + "\":" + value;
    }
    return text + "}";
}

inline std::vector<float> outputs_of(const moe::AnyLayer<float>& layer, const std::vector<float>& x) {
    std::vector<float> y(x.size());
    moe::Workspace workspace;
    const std::size_t d = layer.d_model();
    layer.forward(moe::view(x.data(), x.size() / d, d), moe::view(y.data(), x.size() / d, d), workspace);
    return y;
}

/// Whether the ranges of a layer's experts are `bytes` each, and it has these outputs where they are brought.
inline bool brings_experts(const moe::Checkpoint& checkpoint, std::size_t layer, const std::vector<float>& x,
                           const std::vector<float>& wanted, std::size_t bytes) {
    moe::ExpertRanges ranges = checkpoint.expert_ranges(layer);
    bool right = ranges.n_experts() == checkpoint.config(layer).n_experts;
    for (std::size_t e = 0; e < ranges.n_experts(); ++e) {
        right = right && ranges.bytes(e) == bytes;
    }
    moe::ExpertResidency residency(std::move(ranges), {.wave_bytes = 2 * bytes, .look = false});
    const moe::AnyLayer<float> over_files = checkpoint.layer(layer);
    const std::size_t d = over_files.d_model();
    std::vector<float> y(x.size());
    moe::Workspace workspace;
    over_files.forward(moe::view(x.data(), x.size() / d, d), moe::view(y.data(), x.size() / d, d), workspace,
                       moe::SerialExecutor{}, {.residency = &residency});
    return right && same_bits(y, wanted);
}

}  // namespace moe_test::checkpoint
