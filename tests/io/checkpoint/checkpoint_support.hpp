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
#include <vector>

#include <moe/io.hpp>
#include <moe/moe.hpp>

#include "io/support.hpp"
#include "model/stored_experts.hpp"

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

}  // namespace moe_test::checkpoint
