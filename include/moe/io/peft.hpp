#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "../experts/lora_adapters.hpp"
#include "safetensors.hpp"
#include "safetensors_writer.hpp"

namespace moe::inline MOE_ABI {

/// What lora_A multiplies. PEFT before 0.19 took every parameter of three dimensions for (n_experts, in, out): of one
/// stored (n_experts, outputs, inputs), as in Mixtral and Qwen3-MoE of transformers, its lora_A has the outputs and
/// lora_B the inputs. Since 0.19 they are exchanged for such parameters, and lora_A has the inputs. Which it is cannot
/// be told from shapes where both are equal: it is never guessed.
enum class PeftSide : unsigned char {
    inputs,   ///< of PEFT since 0.19, and of parameters stored (n_experts, inputs, outputs), as GPT-OSS
    outputs,  ///< of PEFT before 0.19, where the parameter is stored (n_experts, outputs, inputs)
};

/// The sizes of the experts whose parameter an adapter is for: (outputs, inputs) each, 2 d_ff outputs where gate and up
/// are one parameter.
struct PeftTarget {
    std::size_t n_experts = 0;
    std::size_t outputs = 0;
    std::size_t inputs = 0;
    PeftSide side = PeftSide::inputs;
};

/// An adapter of a fused parameter of experts, read from a file of PEFT: contiguous copies, which are trained in place.
/// Of gate and up in one parameter there is one A for both, and B is cut as the parameter is, by concatenated() or
/// interleaved(). The scale, lora_alpha / r or with use_rslora lora_alpha / sqrt(r), stands in adapter_config.json.
template <class T>
struct PeftAdapter {
    PeftTarget target;
    std::size_t rank = 0;
    std::vector<T> a;  ///< (n_experts, rank, inputs)
    std::vector<T> b;  ///< (n_experts, outputs, rank)

    /// Views of these.
    [[nodiscard]] LoraPair<T> pair() const& {
        return {stacked(a.data(), target.n_experts, rank, target.inputs),
                stacked(b.data(), target.n_experts, target.outputs, rank)};
    }
    LoraPair<T> pair() const&& = delete;  // temporary: give it a name
};

namespace detail {

/// Calls copy(i, j, at, of_b): for each element of lora_A, (n_experts * rank, a_width) with the expert slowest, and of
/// lora_B, (b_width, rank * n_experts) with the expert fastest, where it stands in the file and in the stack it belongs
/// to (PEFT, ParamWrapper.get_delta_weight: lora_B is reshaped to (out, r, n_experts)).
template <class Copy>
void for_each_peft_element(const PeftTarget& target, std::size_t rank, const Copy& copy) {
    const bool swapped = target.side == PeftSide::outputs;
    const std::size_t a_width = swapped ? target.outputs : target.inputs;
    const std::size_t b_width = swapped ? target.inputs : target.outputs;
    for (std::size_t e = 0; e < target.n_experts; ++e) {
        for (std::size_t j = 0; j < rank; ++j) {
            for (std::size_t i = 0; i < a_width; ++i) {
                const std::size_t in_file = (e * rank + j) * a_width + i;
                copy(true, in_file, swapped, swapped ? (e * target.outputs + i) * rank + j : in_file);
            }
            for (std::size_t o = 0; o < b_width; ++o) {
                const std::size_t in_file = (o * rank + j) * target.n_experts + e;
                copy(false, in_file, !swapped,
                     swapped ? (e * rank + j) * target.inputs + o : (e * target.outputs + o) * rank + j);
            }
        }
    }
}

[[nodiscard]] inline std::string peft_name(const std::string& prefix, const char* matrix) {
    return std::string(prefix).append(".").append(matrix).append(".weight");
}

}  // namespace detail

/// The adapter whose tensors are `prefix`.lora_A.weight and `prefix`.lora_B.weight, for example of
/// "base_model.model.model.layers.0.mlp.experts". Of several target_parameters of one module the inner ones have
/// ".base_layer" behind. F32, F64, BF16 and F16 are converted to T. Throws Error: not_found, unknown_type, shape where
/// the tensors are not those of `target`, naming both shapes.
template <class T = float>
[[nodiscard]] PeftAdapter<T> read_peft(const SafetensorsFile& file, const std::string& prefix,
                                       const PeftTarget& target) {
    const TensorView& lora_a = file.at(detail::peft_name(prefix, "lora_A"));
    const TensorView& lora_b = file.at(detail::peft_name(prefix, "lora_B"));
    const bool swapped = target.side == PeftSide::outputs;
    const std::size_t a_width = swapped ? target.outputs : target.inputs;
    const std::size_t b_width = swapped ? target.inputs : target.outputs;
    ensure(target.n_experts > 0 && target.outputs > 0 && target.inputs > 0, ErrorCode::shape,
           "read_peft: ", target.n_experts, " experts of ", target.outputs, " x ", target.inputs,
           "; every size must be at least 1");
    ensure(lora_a.shape.size() == 2 && lora_b.shape.size() == 2, ErrorCode::shape,
           "read_peft: ", detail::in_quotes(prefix), " has tensors of ", lora_a.shape.size(), " and ",
           lora_b.shape.size(), " dimensions, both must have 2");
    const std::size_t ranks = lora_a.shape[0];
    ensure(ranks > 0 && ranks % target.n_experts == 0 && lora_a.shape[1] == a_width, ErrorCode::shape,
           "read_peft: ", detail::in_quotes(lora_a.name), " is ", ranks, " x ", lora_a.shape[1],
           ", it must be a multiple of ", target.n_experts, " x ", a_width);
    ensure(lora_b.shape[0] == b_width && lora_b.shape[1] == ranks, ErrorCode::shape,
           "read_peft: ", detail::in_quotes(lora_b.name), " is ", lora_b.shape[0], " x ", lora_b.shape[1],
           ", it must be ", b_width, " x ", ranks);
    PeftAdapter<T> result{target, ranks / target.n_experts, {}, {}};
    result.a.resize(checked_multiply(ranks, target.inputs));
    result.b.resize(checked_multiply(ranks, target.outputs));
    const std::vector<double> of_a = lora_a.to_double_vector();
    const std::vector<double> of_b = lora_b.to_double_vector();
    detail::for_each_peft_element(target, result.rank, [&](bool is_a, std::size_t from, bool to_b, std::size_t to) {
        (to_b ? result.b : result.a)[to] = static_cast<T>(is_a ? of_a[from] : of_b[from]);
    });
    return result;
}

/// The two tensors of an adapter as PEFT stores them, to be written with others by write_safetensors. Owns what they
/// view.
template <class T>
class PeftTensors {
public:
    /// Throws Error(missing, shape) where the adapter is none of `target`.
    PeftTensors(const std::string& prefix, const LoraPair<T>& pair, const PeftTarget& target)
        : prefix_(prefix), target_(target), rank_(pair.rank()) {
        ensure(!pair.empty(), ErrorCode::missing, "PeftTensors: ", detail::in_quotes(prefix), " has no adapter");
        detail::check_pair("PEFT", pair, target.n_experts, target.outputs, target.inputs);
        const std::size_t ranks = checked_multiply(target.n_experts, rank_);
        const bool swapped = target.side == PeftSide::outputs;
        a_.resize(checked_multiply(ranks, swapped ? target.outputs : target.inputs));
        b_.resize(checked_multiply(ranks, swapped ? target.inputs : target.outputs));
        const auto element = [](const WeightStack<T>& stack, std::size_t at) {
            const std::size_t row = at / stack.inputs();
            const WeightBlock<T> block = stack.block(row / stack.outputs(), row % stack.outputs(), 1);
            return load_element(block.data + at % stack.inputs() * block.input_stride);
        };
        detail::for_each_peft_element(target, rank_, [&](bool is_a, std::size_t to, bool of_b, std::size_t from) {
            (is_a ? a_ : b_)[to] = element(of_b ? pair.b : pair.a, from);
        });
    }

    /// lora_A and lora_B.
    [[nodiscard]] std::array<TensorToWrite, 2> tensors() const& {
        const bool swapped = target_.side == PeftSide::outputs;
        const std::size_t ranks = target_.n_experts * rank_;
        return {tensor_to_write<T>(detail::peft_name(prefix_, "lora_A"),
                                   {ranks, swapped ? target_.outputs : target_.inputs}, a_),
                tensor_to_write<T>(detail::peft_name(prefix_, "lora_B"),
                                   {swapped ? target_.inputs : target_.outputs, ranks}, b_)};
    }
    std::array<TensorToWrite, 2> tensors() const&& = delete;  // temporary: give it a name

private:
    std::string prefix_;
    PeftTarget target_;
    std::size_t rank_;
    std::vector<T> a_;
    std::vector<T> b_;
};

}  // namespace moe::inline MOE_ABI
