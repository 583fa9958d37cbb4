#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "model/golden_layer.hpp"
#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"

namespace moe_test::golden_gradients_test {

/// The gradients of the golden blocks, which PyTorch computed in float64 from the architectures' own code: views and
/// packed panels, float and double, each tensor in the storage order that the checkpoint has.
namespace {

/// Memory for the gradient of each parameter, by name, and views of it as the layer reads the parameters.
template <class T>
class Gradients {
public:
    Gradients(const GoldenBlock& block, GoldenTensors<T>& tensors) : block_(block), tensors_(tensors) {
        const moe::MoEConfig& config = block.config;
        to.router = stack(block.router, 1, config.n_routed(), 40);
        if (config.router_bias) {
            to.router_bias = memory(block.router_bias, config.n_routed());
        }
        experts();
        if (config.shared_d_ff != 0) {
            const std::size_t d_ff = config.shared_d_ff;
            to.shared = {{.gate = stack(block.shared + "gate_proj.weight", 1, d_ff, 40),
                          .up = stack(block.shared + "up_proj.weight", 1, d_ff, 40),
                          .down = stack(block.shared + "down_proj.weight", 1, 40, d_ff)}};
        }
        if (!block.shared_gate.empty()) {
            to.shared_gate = stack(block.shared_gate, 1, 1, 40);
        }
        if (config.output_bias) {
            to.output_bias = memory(block.output_bias, 40);
        }
    }
    Gradients(const Gradients&) = delete;
    Gradients& operator=(const Gradients&) = delete;

    moe::LayerGradients<T> to;

    /// Every gradient tensor of the file, but that of x; the largest error, and whose it is.
    void check(double bound, double router_bound) const {
        for (const auto& [name, values] : memory_) {
            std::vector<double> expected = tensors_.file().at("grad." + name).to_double_vector();
            REQUIRE(expected.size() >= values.size());
            expected.resize(values.size());  // those of experts without parameters are zero
            INFO(name);
            CHECK(moe_test::nmse(values, expected) <= (name == block_.router ? router_bound : bound));
        }
        std::size_t in_file = 0;
        for (const auto& tensor : tensors_.file().tensors()) {
            in_file += tensor.name.starts_with("grad.") ? 1U : 0U;
        }
        CHECK(memory_.size() == in_file);
    }

private:
    std::vector<T>& memory(const std::string& name, std::size_t size) {
        auto& values = memory_[name];
        values.assign(size, T(0));
        return values;
    }
    moe::MutableStack<T> stack(const std::string& name, std::size_t n, std::size_t rows, std::size_t columns) {
        return moe::stacked_gradients(memory(name, n * rows * columns).data(), n, rows, columns);
    }

    void experts() {
        const moe::MoEConfig& config = block_.config;
        const std::size_t n = config.n_experts;
        const auto oriented = [](const moe::MutableStack<T>& stored, bool input_major) {
            return input_major ? moe::transpose(stored) : stored;
        };
        if (block_.file == "switch_transformers") {
            std::vector<T*> up;
            std::vector<T*> down;
            for (std::size_t e = 0; e < n; ++e) {
                const std::string prefix = "experts.expert_" + std::to_string(e);
                up.push_back(memory(prefix + ".wi.weight", config.d_ff * 40).data());
                down.push_back(memory(prefix + ".wo.weight", config.d_ff * 40).data());
            }
            to.experts.up = moe::separate_gradients(up, config.d_ff, 40);
            to.experts.down = moe::separate_gradients(down, 40, config.d_ff);
            return;
        }
        if (block_.file == "dbrx") {
            to.experts.gate = stack("experts.mlp.w1", n, config.d_ff, 40);
            to.experts.up = stack("experts.mlp.v1", n, config.d_ff, 40);
            to.experts.down = moe::transpose(stack("experts.mlp.w2", n, config.d_ff, 40));
            return;
        }
        const auto split = [&](const moe::MutableStack<T>& both) {
            return config.storage.gate_up == moe::JoinedAs::interleaved ? moe::interleaved(both)
                                                                        : moe::concatenated(both);
        };
        const std::string gate_up = block_.experts + block_.gate_up;
        const std::string down = block_.experts + block_.down;
        const auto& up_shape = tensors_.shape(gate_up);
        const auto& down_shape = tensors_.shape(down);
        const auto halves =
            split(oriented(stack(gate_up, n, up_shape.at(1), up_shape.at(2)), config.storage.up_input_major));
        to.experts.gate = halves.gate;
        to.experts.up = halves.up;
        to.experts.down = oriented(stack(down, n, down_shape.at(1), down_shape.at(2)), config.storage.down_input_major);
        if (config.expert_bias) {
            const auto biases = split(stack("experts.gate_up_proj_bias", n, 2 * config.d_ff, 1));
            to.experts.gate_bias = biases.gate;
            to.experts.up_bias = biases.up;
            to.experts.down_bias = stack("experts.down_proj_bias", n, 40, 1);
        }
    }

    const GoldenBlock& block_;
    GoldenTensors<T>& tensors_;
    std::map<std::string, std::vector<T>> memory_;
};

template <class T, class Layer>
void check_layer(const Layer& layer, const GoldenBlock& block, GoldenTensors<T>& tensors, double bound,
                 double router_bound) {
    const std::vector<T>& x = tensors.at("input");
    const std::vector<T>& dy = tensors.at("grad_output");
    const std::size_t n = x.size() / 40;
    Gradients<T> gradients(block, tensors);
    std::vector<T> y(x.size());
    std::vector<T> dx(x.size(), T(7));
    moe::Workspace workspace;
    moe::Tape<T> tape;
    moe::forward(layer, moe::view(x.data(), n, 40), moe::view(y.data(), n, 40), tape, workspace);
    moe::backward(layer, tape, moe::view(dy.data(), n, 40), moe::view(dx.data(), n, 40), gradients.to, workspace,
                  moe_test::ThreadExecutor(2));
    CHECK(moe_test::nmse(dx, tensors.file().at("grad_input").to_double_vector()) <= bound);
    gradients.check(bound, router_bound);
}

template <class T>
void check_blocks(double bound, double router_bound) {
    for (const GoldenBlock& block : golden_blocks()) {
        INFO(block.file);
        GoldenTensors<T> tensors(block.file);
        std::vector<float> selection_bias;
        if (block.config.selection_bias) {
            selection_bias = tensors.file().at("param." + block.selection_bias).to_float_vector();
        }
        const bool is_switch = block.file == "switch_transformers";  // its router ran in float32
        const auto layer = golden_layer<T>(block, tensors, selection_bias);
        const double least = is_switch ? 1e-12 : 0.0;
        check_layer<T>(layer, block, tensors, std::max(bound, least), std::max(router_bound, least));
        check_layer<T>(moe::pack(layer), block, tensors, std::max(bound, least), std::max(router_bound, least));
    }
}

}  // namespace

TEST_CASE("gradients of released architectures in double", "[gradients][golden]") {
    check_blocks<double>(1e-24, 1e-24);
}

TEST_CASE("gradients of released architectures in float", "[gradients][golden]") { check_blocks<float>(1e-12, 1e-11); }

}  // namespace moe_test::golden_gradients_test
