#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../../core/error.hpp"
#include "../../formats/block_type.hpp"
#include "../../model/storage_order.hpp"
#include "../gguf_shards.hpp"
#include "../safetensors.hpp"
#include "../text.hpp"

namespace moe::inline MOE_ABI::detail {

/// A tensor of a checkpoint of either kind, in the memory of its file.
struct StoredTensor {
    std::string_view name;
    std::string_view type_name;
    const BlockType* type = nullptr;  ///< null for a DType that no BlockType stands for
    std::span<const std::size_t> shape;
    std::span<const std::byte> bytes;

    /// Extent `i` from the end, 1 beyond the first.
    [[nodiscard]] std::size_t from_end(std::size_t i) const noexcept {
        return i < shape.size() ? shape[shape.size() - 1 - i] : 1;
    }

    /// All values. Throws Error(unknown_type) naming the tensor if they cannot be decoded.
    [[nodiscard]] std::vector<float> to_floats() const {
        ensure(type != nullptr && type->decode != nullptr, ErrorCode::unknown_type, "tensor ", in_quotes(name),
               " holds ", type_name, ", not numbers that can be read here");
        std::vector<float> values(bytes.size() / type->block_bytes * type->block_values);
        decode_blocks(*type, bytes, values);
        return values;
    }
};

/// The tensors of all files of a checkpoint, by name; keeps the files mapped.
class StoredTensors {
public:
    /// `gptq_zeros`: whether zero points of GPTQ are stored as they are, which their format does not say itself.
    explicit StoredTensors(std::vector<SafetensorsFile> files, bool gptq_zeros = false)
        : files_(std::move(files)), gptq_zeros_(gptq_zeros) {
        for (const SafetensorsFile& file : files_) {
            for (const TensorView& tensor : file.tensors()) {
                const BlockType* const type = tensor.dtype == DType::f32    ? find_block_type("F32")
                                              : tensor.dtype == DType::f16  ? find_block_type("F16")
                                              : tensor.dtype == DType::bf16 ? find_block_type("BF16")
                                              : tensor.dtype == DType::i32  ? find_block_type("I32")
                                              : tensor.dtype == DType::i64  ? find_block_type("I64")
                                                                            : nullptr;
                by_name_.push_back({tensor.name, dtype_name(tensor.dtype), type, tensor.shape, tensor.bytes});
            }
        }
        sort();
    }
    explicit StoredTensors(GgufShards shards) : shards_(std::move(shards)) {
        for (const GgufFile& file : shards_->files()) {
            for (const GgufTensor& tensor : file.tensors()) {
                by_name_.push_back({tensor.name, tensor.type->name, tensor.type, tensor.shape, tensor.bytes});
            }
        }
        sort();
    }

    [[nodiscard]] const StoredTensor* find(std::string_view name) const noexcept {
        const auto found =
            std::lower_bound(by_name_.begin(), by_name_.end(), name,
                             [](const StoredTensor& tensor, std::string_view wanted) { return tensor.name < wanted; });
        return found == by_name_.end() || found->name != name ? nullptr : &*found;
    }
    /// Whether any name begins so.
    [[nodiscard]] bool any_with(std::string_view prefix) const noexcept {
        const auto found =
            std::lower_bound(by_name_.begin(), by_name_.end(), prefix,
                             [](const StoredTensor& tensor, std::string_view wanted) { return tensor.name < wanted; });
        return found != by_name_.end() && found->name.starts_with(prefix);
    }
    /// By name.
    [[nodiscard]] std::span<const StoredTensor> all() const noexcept { return by_name_; }
    [[nodiscard]] bool gptq_zeros_as_they_are() const noexcept { return gptq_zeros_; }
    [[nodiscard]] const std::optional<GgufShards>& shards() const noexcept { return shards_; }

private:
    void sort() {
        std::sort(by_name_.begin(), by_name_.end(),
                  [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
        const auto twice = std::adjacent_find(by_name_.begin(), by_name_.end(),
                                              [](const auto& a, const auto& b) { return a.name == b.name; });
        if (twice != by_name_.end()) {
            raise_error(ErrorCode::duplicate, "checkpoint: two files have a tensor named ", in_quotes(twice->name));
        }
    }

    std::vector<SafetensorsFile> files_;
    bool gptq_zeros_ = false;
    std::optional<GgufShards> shards_;
    std::vector<StoredTensor> by_name_;
};

/// The tensors of one projection: one of all experts, or one each.
struct StoredProjection {
    std::vector<const StoredTensor*> tensors;
    bool flat = false;  ///< (n_experts * rows, columns), as DBRX has it

    [[nodiscard]] bool empty() const noexcept { return tensors.empty(); }
};

/// The tensors of experts, routed or shared, and how they are stored.
struct StoredExperts {
    StoredProjection gate, up, gate_up, down;
    StoredProjection gate_bias, up_bias, gate_up_bias, down_bias;
    StorageOrder storage{};
};

/// The tensors of a layer; null or empty where it has none.
struct StoredLayer {
    const StoredTensor* router = nullptr;
    const StoredTensor* router_bias = nullptr;
    const StoredTensor* selection_bias = nullptr;
    const StoredTensor* per_expert_scale = nullptr;
    const StoredTensor* output_bias = nullptr;
    const StoredTensor* hash_table = nullptr;
    const StoredTensor* shared_gate = nullptr;
    StoredExperts experts;
    StoredExperts shared;

    /// The names of all.
    [[nodiscard]] std::vector<std::string> names() const {
        std::vector<std::string> result;
        for (const StoredTensor* const one :
             {router, router_bias, selection_bias, per_expert_scale, output_bias, hash_table, shared_gate}) {
            if (one != nullptr) {
                result.emplace_back(one->name);
            }
        }
        for (const StoredExperts* const part : {&experts, &shared}) {
            for (const StoredProjection* const projection :
                 {&part->gate, &part->up, &part->gate_up, &part->down, &part->gate_bias, &part->up_bias,
                  &part->gate_up_bias, &part->down_bias}) {
                for (const StoredTensor* const one : projection->tensors) {
                    result.emplace_back(one->name);
                }
            }
        }
        return result;
    }
};

}  // namespace moe::inline MOE_ABI::detail
