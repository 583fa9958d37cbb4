// A decode loop in plain C++, as small programs for Llama models have it, whose feed-forward network is a layer of this
// library: three lines to load it, one to run it. Writes the text that the demo's model finds likeliest, holds it
// against the stored one, and counts what is allocated after the first token: nothing.
//   llama_loop [<folder with config.json, model.safetensors and reference.safetensors>]

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <moe/instantiate.hpp>
#include <moe/io.hpp>

namespace {

std::size_t allocations = 0;

void* counted(std::size_t bytes, std::size_t alignment) {
    ++allocations;
    void* const memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    return memory == nullptr ? std::abort(), nullptr : memory;
}

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t bytes) { return counted(bytes, alignof(std::max_align_t)); }
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
    return counted(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

using Values = std::vector<float>;

// the sizes of tiny-mixtral
constexpr std::size_t d_model = 128, n_layers = 4, n_heads = 4, n_kv_heads = 2, head_dim = 32, n_tokens = 256;
constexpr std::size_t max_positions = 512, kv_width = n_kv_heads * head_dim, half = head_dim / 2;
constexpr float eps = 1e-5F, rope_theta = 1e6F;

struct Layer {
    Values attention_norm, query, key, value, output, ffn_norm;
    Values keys = Values(max_positions * kv_width), values = Values(max_positions * kv_width);  // of all tokens so far
    moe::AnyLayer<float> ffn;
};

void rms_norm(const Values& x, const Values& weight, Values& out) {
    float sum = 0;
    for (const float value : x) {
        sum += value * value;
    }
    const float scale = 1 / std::sqrt(sum / static_cast<float>(x.size()) + eps);
    for (std::size_t i = 0; i < x.size(); ++i) {
        out[i] = x[i] * scale * weight[i];
    }
}

/// out = matrix (out.size(), x.size()) times x.
void multiply(const Values& matrix, const Values& x, Values& out) {
    for (std::size_t row = 0; row < out.size(); ++row) {
        float sum = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            sum += matrix[row * x.size() + i] * x[i];
        }
        out[row] = sum;
    }
}

/// Turns the pairs (i, i + half) of each head; the model's frequencies are bfloat16.
void rotate(Values& heads, std::size_t position) {
    for (std::size_t i = 0; i < half; ++i) {
        const float exact = std::pow(rope_theta, -2 * static_cast<float>(i) / static_cast<float>(head_dim));
        const float angle = static_cast<float>(position) * moe::to_float(moe::to_bfloat16(exact));
        const float cosine = std::cos(angle);
        const float sine = std::sin(angle);
        for (std::size_t a = i; a < heads.size(); a += head_dim) {
            const float old = heads[a];
            heads[a] = old * cosine - heads[a + half] * sine;
            heads[a + half] = heads[a + half] * cosine + old * sine;
        }
    }
}

class Model {
public:
    explicit Model(const std::string& folder) {
        const auto file = moe::SafetensorsFile::open(folder + "/model.safetensors");
        const auto get = [&](const std::string& name) { return file.at(name + ".weight").to_float_vector(); };
        embedding_ = get("model.embed_tokens");
        norm_ = get("model.norm");
        head_ = get("lm_head");
        const auto checkpoint = moe::Checkpoint::open(folder);  // the feed-forward networks are the library's
        for (std::size_t i = 0; i < n_layers; ++i) {
            const std::string begin = "model.layers." + std::to_string(i) + ".";
            const std::string attention = begin + "self_attn.";
            layers_.push_back({.attention_norm = get(begin + "input_layernorm"),
                               .query = get(attention + "q_proj"),
                               .key = get(attention + "k_proj"),
                               .value = get(attention + "v_proj"),
                               .output = get(attention + "o_proj"),
                               .ffn_norm = get(begin + "post_attention_layernorm"),
                               .ffn = checkpoint.pack(i)});
        }
    }

    /// The logits of what follows `token` at `position`; those before must have gone through.
    const Values& forward(std::size_t token, std::size_t position) {
        std::copy_n(embedding_.data() + token * d_model, d_model, x_.data());
        for (Layer& layer : layers_) {
            rms_norm(x_, layer.attention_norm, normed_);
            attend(layer, position);
            for (std::size_t i = 0; i < d_model; ++i) {
                x_[i] += branch_[i];
            }
            rms_norm(x_, layer.ffn_norm, normed_);
            moe::ForwardOptions<float> add;  // x += layer(normed)
            add.accumulate = true;
            layer.ffn.forward(moe::view(std::as_const(normed_).data(), 1, d_model), moe::view(x_.data(), 1, d_model),
                              workspace_, moe::SerialExecutor{}, add);
        }
        rms_norm(x_, norm_, normed_);
        multiply(head_, normed_, logits_);
        return logits_;
    }

private:
    void attend(Layer& layer, std::size_t position) {
        multiply(layer.query, normed_, query_);
        multiply(layer.key, normed_, key_);
        multiply(layer.value, normed_, value_);
        rotate(query_, position);
        rotate(key_, position);
        std::copy(key_.begin(), key_.end(), layer.keys.data() + position * kv_width);
        std::copy(value_.begin(), value_.end(), layer.values.data() + position * kv_width);
        std::fill(mixed_.begin(), mixed_.end(), 0.0F);
        for (std::size_t head = 0; head < n_heads; ++head) {
            const std::size_t at = head * n_kv_heads / n_heads * head_dim;
            float most = -INFINITY;
            for (std::size_t t = 0; t <= position; ++t) {
                scores_[t] = 0;
                for (std::size_t i = 0; i < head_dim; ++i) {
                    scores_[t] += query_[head * head_dim + i] * layer.keys[t * kv_width + at + i];
                }
                scores_[t] /= std::sqrt(static_cast<float>(head_dim));
                most = std::max(most, scores_[t]);
            }
            float sum = 0;
            for (std::size_t t = 0; t <= position; ++t) {
                scores_[t] = std::exp(scores_[t] - most);
                sum += scores_[t];
            }
            for (std::size_t t = 0; t <= position; ++t) {
                for (std::size_t i = 0; i < head_dim; ++i) {
                    mixed_[head * head_dim + i] += scores_[t] / sum * layer.values[t * kv_width + at + i];
                }
            }
        }
        multiply(layer.output, mixed_, branch_);
    }

    Values embedding_, norm_, head_;
    std::vector<Layer> layers_;
    moe::Workspace workspace_;  // grows with the first token
    Values x_ = Values(d_model), normed_ = x_, branch_ = x_, mixed_ = x_, query_ = x_;
    Values key_ = Values(kv_width), value_ = key_, scores_ = Values(max_positions), logits_ = Values(n_tokens);
};

}  // namespace

int main(int argc, char** argv) {
    const std::string folder = argc > 1 ? argv[1] : MOE_MODEL_FOLDER;
    Model model(folder);
    const auto reference = moe::SafetensorsFile::open(folder + "/reference.safetensors");
    const auto wanted = reference.at("greedy").to_vector<std::int32_t>();
    const std::size_t prompt = reference.at("prompt").to_vector<std::int32_t>().size();

    std::size_t right = 0;
    std::size_t before = 0;
    for (std::size_t position = 0; position + 1 < wanted.size(); ++position) {
        const Values& logits = model.forward(static_cast<std::size_t>(wanted[position]), position);
        const auto likeliest = std::max_element(logits.begin(), logits.end()) - logits.begin();
        if (position + 1 >= prompt) {
            std::putchar(static_cast<int>(likeliest));
            right += likeliest == wanted[position + 1] ? 1U : 0U;
        }
        before = position == 0 ? allocations : before;
    }
    const std::size_t later = allocations - before;
    const std::size_t count = wanted.size() - prompt;
    std::printf("\n%zu of %zu bytes as stored, %zu allocations after the first token\n", right, count, later);
    return right == count && before > 0 && later == 0 ? 0 : 1;
}
