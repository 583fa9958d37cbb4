#include "published.hpp"

#include <algorithm>
#include <cstddef>
#include <string>

namespace trainer {

namespace {

/// Where a tensor of the file belongs.
struct Place {
    std::string parameter;
    std::size_t first = 0;  ///< value of it
};

/// Calls use(name, rows, cols, place) for each tensor of the file; a vector has no rows.
template <class Use>
void for_each_tensor(const Config& config, const Use& use) {
    const Eigen::Index d = config.d_model;
    const Eigen::Index d_ff = config.d_ff;
    const auto same = [&](const std::string& name, Eigen::Index rows, Eigen::Index cols) {
        use(name, rows, cols, Place{name});
    };
    same("model.embed_tokens.weight", config.vocab_size, d);
    for (std::ptrdiff_t i = 0; i < config.n_layers; ++i) {
        const std::string layer = "model.layers." + std::to_string(i) + ".";
        same(layer + "input_layernorm.weight", 0, d);
        same(layer + "self_attn.q_proj.weight", config.n_heads * config.head_dim, d);
        same(layer + "self_attn.k_proj.weight", config.n_kv_heads * config.head_dim, d);
        same(layer + "self_attn.v_proj.weight", config.n_kv_heads * config.head_dim, d);
        same(layer + "self_attn.o_proj.weight", d, config.n_heads * config.head_dim);
        same(layer + "post_attention_layernorm.weight", 0, d);
        const std::string moe = layer + "block_sparse_moe.";
        use(moe + "gate.weight", config.n_experts, d, Place{layer + "mlp.gate.weight"});
        const std::size_t size = unsigned_size(d) * unsigned_size(d_ff);
        for (std::ptrdiff_t e = 0; e < config.n_experts; ++e) {
            const std::string expert = moe + "experts." + std::to_string(e) + ".";
            const std::size_t first = unsigned_size(e) * size;
            use(expert + "w1.weight", d_ff, d, Place{layer + "mlp.experts.gate_up_proj", 2 * first});
            use(expert + "w3.weight", d_ff, d, Place{layer + "mlp.experts.gate_up_proj", 2 * first + size});
            use(expert + "w2.weight", d, d_ff, Place{layer + "mlp.experts.down_proj", first});
        }
    }
    same("model.norm.weight", 0, d);
    same("lm_head.weight", config.vocab_size, d);
}

}  // namespace

PublishedModel::PublishedModel(const std::string& directory)
    : config_(generate::read_config(directory + "/config.json")), file_(directory + "/model.safetensors") {
    for_each_tensor(config_, [&](const std::string& name, Eigen::Index rows, Eigen::Index cols, const Place&) {
        if (rows == 0) {
            (void)file_.vector(name, cols);
        } else {
            (void)file_.elements(name, rows, cols);
        }
    });
}

void PublishedModel::copy_to(Model<float>& model) const {
    for_each_tensor(config_, [&](const std::string& name, Eigen::Index rows, Eigen::Index cols, const Place& place) {
        const generate::Matrix values =
            rows == 0 ? generate::Matrix(file_.vector(name, cols)) : file_.matrix(name, rows, cols);
        const std::span<float> to = model.parameters()[place.parameter].value();
        std::copy(values.data(), values.data() + values.size(), to.begin() + signed_size(place.first));
    });
}

}  // namespace trainer
