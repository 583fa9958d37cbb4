#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../../experts/encoded_stack.hpp"
#include "../../formats/encodings/awq.hpp"
#include "../../formats/encodings/compressed_int4.hpp"
#include "../../formats/encodings/fp8.hpp"
#include "../../formats/encodings/gptq.hpp"
#include "../../formats/encodings/mxfp4.hpp"
#include "../../formats/encodings/nvfp4.hpp"
#include "stored_tensors.hpp"

namespace moe::inline MOE_ABI::detail {

/// The matrices of a projection whose weights are codes in one tensor, with scales in others beside it: which encoding
/// it is says the name and type of the first, and of the others the names.
class EncodedTensors {
public:
    EncodedTensors(const StoredTensors& files, const Projection& projection, std::size_t n_experts, std::size_t outputs,
                   std::size_t inputs)
        : files_(files), projection_(projection), n_experts_(n_experts), outputs_(outputs), inputs_(inputs) {}

    /// Throws Error(unknown_type) naming a tensor in no known encoding, Error(not_found) for scales that are missing,
    /// and what the encodings say of sizes and values.
    [[nodiscard]] EncodedStack stack() const {
        const StoredTensor& front = *projection_.tensors.front();
        const auto [base, suffix] = base_of(front.name);
        const bool float8 = front.type_name == "F8_E4M3" || front.type_name == "F8_E5M2";
        if (suffix == "_blocks") {
            return mxfp4();
        }
        if (suffix == ".weight" && float8) {
            return each([&](const StoredTensor& tensor) { return fp8(tensor); });
        }
        if (suffix == ".qweight") {
            const bool awq = front.from_end(1) == inputs_;  // (in, out / 8); GPTQ has (in / 8, out)
            return awq ? each([&](const StoredTensor& tensor) { return this->awq(tensor); })
                       : each([&](const StoredTensor& tensor) { return gptq(tensor); });
        }
        if (front.type_name == "U8" && (suffix == ".weight" || suffix == ".weight_packed")) {
            return each([&](const StoredTensor& tensor) { return nvfp4(tensor); });
        }
        if (suffix == ".weight_packed") {
            return each([&](const StoredTensor& tensor) { return int4(tensor); });
        }
        raise_error(ErrorCode::unknown_type, "checkpoint: tensor ", in_quotes(front.name), " holds ", front.type_name,
                    ", in no encoding that is read here");
    }

    /// The tensors beside one of codes.
    [[nodiscard]] static std::vector<const StoredTensor*> beside(const StoredTensors& files,
                                                                 const StoredTensor& codes) {
        std::vector<const StoredTensor*> found;
        const auto [base, suffix] = base_of(codes.name);
        for (const char* const other :
             {"_scales", ".weight_scale_inv", ".weight_scale", ".weight_scale_2", ".qzeros", ".scales", ".g_idx",
              ".weight_zero_point", ".weight_g_idx", ".weight_global_scale"}) {
            if (const StoredTensor* const tensor = files.find(std::string(base).append(other))) {
                found.push_back(tensor);
            }
        }
        return found;
    }

    /// What the name of a tensor of codes ends with, and what stands before.
    [[nodiscard]] static std::pair<std::string_view, std::string_view> base_of(std::string_view name) noexcept {
        for (const std::string_view suffix : {"_blocks", ".weight_packed", ".qweight", ".weight"}) {
            if (name.ends_with(suffix)) {
                return {name.substr(0, name.size() - suffix.size()), suffix};
            }
        }
        return {name, {}};
    }

private:
    template <class Make>
    [[nodiscard]] EncodedStack each(Make make) const {
        ensure(projection_.tensors.size() == n_experts_, ErrorCode::unknown_type, "checkpoint: tensor ",
               in_quotes(projection_.tensors.front()->name),
               " has the codes of several experts, which is not read in this encoding");
        std::vector<decltype(make(*projection_.tensors.front()))> experts;
        for (const StoredTensor* const tensor : projection_.tensors) {
            experts.push_back(make(*tensor));
        }
        return EncodedStack(std::move(experts));
    }

    [[nodiscard]] const StoredTensor* find(const StoredTensor& codes, std::string_view suffix) const {
        return files_.find(std::string(base_of(codes.name).first).append(suffix));
    }
    [[nodiscard]] const StoredTensor& at(const StoredTensor& codes, std::string_view suffix) const {
        const StoredTensor* const tensor = find(codes, suffix);
        ensure(tensor != nullptr, ErrorCode::not_found, "checkpoint: beside ", in_quotes(codes.name),
               " there is no tensor '", base_of(codes.name).first, suffix, "'");
        return *tensor;
    }

    [[nodiscard]] static encodings::Scales scales_of(const StoredTensor& tensor) {
        const bool known = tensor.type_name == "F32" || tensor.type_name == "BF16" || tensor.type_name == "F16";
        ensure(known, ErrorCode::unknown_type, "checkpoint: the scales ", in_quotes(tensor.name), " are ",
               tensor.type_name, ", not F32, BF16 or F16");
        return {tensor.bytes, tensor.type_name == "F32"    ? encodings::ScaleType::float32
                              : tensor.type_name == "BF16" ? encodings::ScaleType::bfloat16
                                                           : encodings::ScaleType::float16};
    }

    /// Inputs that share a scale, where a tensor has so many of them.
    [[nodiscard]] std::size_t group_size(std::size_t groups) const {
        return groups == 0 ? 0 : divide_up(inputs_, groups);
    }

    [[nodiscard]] EncodedStack mxfp4() const {
        const StoredTensor& blocks = *projection_.tensors.front();
        const StoredTensor& scales = at(blocks, "_scales");
        for (const StoredTensor* const tensor : {&blocks, &scales}) {
            ensure(tensor->type_name == "U8" && tensor->shape.size() >= 3 && tensor->shape.front() == n_experts_,
                   ErrorCode::shape, "checkpoint: tensor ", in_quotes(tensor->name), " of ", tensor->type_name,
                   " has no bytes of ", n_experts_, " experts");
        }
        std::vector<encodings::Mxfp4Matrix> experts;
        const std::size_t size = blocks.bytes.size() / n_experts_;
        const std::size_t scale_size = scales.bytes.size() / n_experts_;
        for (std::size_t e = 0; e < n_experts_; ++e) {
            experts.emplace_back(blocks.bytes.subspan(e * size, size), scales.bytes.subspan(e * scale_size, scale_size),
                                 outputs_, inputs_);
        }
        return EncodedStack(std::move(experts));
    }

    [[nodiscard]] encodings::Fp8Matrix fp8(const StoredTensor& codes) const {
        constexpr std::size_t block = 128;
        const StoredTensor* const inverse = find(codes, ".weight_scale_inv");
        const StoredTensor& scales = inverse != nullptr ? *inverse : at(codes, ".weight_scale");
        const std::size_t count = scales.from_end(0) * scales.from_end(1);
        const bool blocks = inverse != nullptr || (scales.from_end(0) > 1 && scales.shape.size() > 1);
        const bool for_all = !blocks && count == 1;
        return {codes.type_name == "F8_E4M3" ? encodings::Float8::e4m3 : encodings::Float8::e5m2,
                codes.bytes,
                scales_of(scales),
                outputs_,
                inputs_,
                blocks    ? block
                : for_all ? outputs_
                          : 1,
                blocks ? block : inputs_};
    }

    [[nodiscard]] encodings::GptqMatrix gptq(const StoredTensor& codes) const {
        const StoredTensor& scales = at(codes, ".scales");
        const StoredTensor* const order = find(codes, ".g_idx");
        return {{codes.bytes, at(codes, ".qzeros").bytes, scales_of(scales),
                 order == nullptr ? std::span<const std::byte>() : order->bytes},
                outputs_,
                inputs_,
                group_size(scales.from_end(1)),
                files_.gptq_zeros_as_they_are() ? encodings::GptqZeros::as_they_are : encodings::GptqZeros::less_one};
    }

    [[nodiscard]] encodings::AwqMatrix awq(const StoredTensor& codes) const {
        const StoredTensor& scales = at(codes, ".scales");
        return {{codes.bytes, at(codes, ".qzeros").bytes, scales_of(scales)},
                outputs_,
                inputs_,
                group_size(scales.from_end(1))};
    }

    [[nodiscard]] encodings::CompressedInt4Matrix int4(const StoredTensor& codes) const {
        const StoredTensor& scales = at(codes, ".weight_scale");
        const auto bytes = [&](std::string_view suffix) {
            const StoredTensor* const tensor = find(codes, suffix);
            return tensor == nullptr ? std::span<const std::byte>() : tensor->bytes;
        };
        return {{codes.bytes, scales_of(scales), bytes(".weight_zero_point"), bytes(".weight_g_idx")},
                outputs_,
                inputs_,
                group_size(scales.from_end(0))};
    }

    [[nodiscard]] encodings::Nvfp4Matrix nvfp4(const StoredTensor& codes) const {
        const StoredTensor* const reciprocal = find(codes, ".weight_global_scale");
        const StoredTensor& global = reciprocal != nullptr ? *reciprocal : at(codes, ".weight_scale_2");
        const std::vector<float> value = global.to_floats();
        ensure(value.size() == 1, ErrorCode::shape, "checkpoint: tensor ", in_quotes(global.name), " has ",
               value.size(), " values, not one");
        return {
            codes.bytes,   at(codes, ".weight_scale").bytes,
            value.front(), reciprocal != nullptr ? encodings::GlobalScale::divides : encodings::GlobalScale::multiplies,
            outputs_,      inputs_};
    }

    const StoredTensors& files_;
    const Projection& projection_;
    std::size_t n_experts_;
    std::size_t outputs_;
    std::size_t inputs_;
};

}  // namespace moe::inline MOE_ABI::detail
