#include <moe/io/gguf_file.hpp>
#include <moe/io/gguf_writer.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/support.hpp"

namespace {

using moe::GgufFile;
using moe::GgufTensor;
using moe::GgufType;
using moe::GgufValue;
using namespace moe_test::fuzz;

bool same(const GgufTensor& a, const GgufTensor& b) {
    return a.name == b.name && a.type == b.type && a.shape == b.shape && same_bits(a.bytes, b.bytes);
}

bool same_value(const GgufValue& a, const GgufValue& b) {
    return a.key == b.key && a.type == b.type && a.is_array == b.is_array && a.count == b.count &&
           same_bits(a.bytes, b.bytes);
}

/// Rows decoded one by one have the bits of all decoded together.
void check_decoding(const GgufTensor& tensor) {
    std::vector<float> together;
    if (!accepted([&] { together = tensor.to_float_vector(); })) {
        confirm(tensor.type->decode == nullptr, "what can be decoded is");
        return;
    }
    confirm(together.size() == tensor.element_count(), "all elements are decoded");
    std::vector<float> row(tensor.rows() == 0 ? 0 : tensor.row_values());
    for (std::size_t i = 0; i < tensor.rows(); ++i) {
        tensor.decode_rows(i, row);
        confirm(same_bits<float>(row, std::span(together).subspan(i * row.size(), row.size())),
                "a row by itself is the row among all");
    }
    confirm(row.empty() || !accepted([&] { tensor.decode_rows(tensor.rows(), row); }),
            "there is no row behind the last");
}

void check_tensor(const GgufFile& file, const GgufTensor& tensor, Input input) {
    confirm(tensor.type != nullptr && moe::find_block_type(tensor.type->number) == tensor.type,
            "the type is a known one");
    confirm(lies_in(tensor.bytes, input), "the bytes of a tensor lie in the file");
    confirm(
        tensor.bytes.empty() || static_cast<std::size_t>(tensor.bytes.data() - input.data()) % file.alignment() == 0,
        "a tensor is aligned within the file");
    confirm(file.find(tensor.name) == &tensor, "a tensor is found by its name");
    std::size_t elements = 1;
    for (const std::size_t extent : tensor.shape) {
        elements *= extent;
    }
    confirm(tensor.element_count() == elements, "a tensor has the elements of its shape");
    confirm(tensor.rows() * tensor.row_bytes() == tensor.bytes.size() || elements == 0, "rows fill a tensor");
    check_decoding(tensor);
}

/// A value as the writer takes it; nothing where it is read as none, which cannot be.
template <class T>
moe::GgufMetadataValue to_write(const GgufValue& value) {
    return value.is_array ? moe::GgufMetadataValue(value.to_vector<T>()) : moe::GgufMetadataValue(value.as<T>());
}

moe::GgufMetadataValue to_write(const GgufValue& value) {
    switch (value.type) {
        case GgufType::u8: return to_write<std::uint8_t>(value);
        case GgufType::i8: return to_write<std::int8_t>(value);
        case GgufType::u16: return to_write<std::uint16_t>(value);
        case GgufType::i16: return to_write<std::int16_t>(value);
        case GgufType::u32: return to_write<std::uint32_t>(value);
        case GgufType::i32: return to_write<std::int32_t>(value);
        case GgufType::f32: return to_write<float>(value);
        case GgufType::boolean: return to_write<bool>(value);
        case GgufType::string: return to_write<std::string>(value);
        case GgufType::u64: return to_write<std::uint64_t>(value);
        case GgufType::i64: return to_write<std::int64_t>(value);
        case GgufType::f64: return to_write<double>(value);
        case GgufType::array: break;
    }
    confirm(false, "the type of a value is one of those there are");
    return {};
}

/// Reading a value as what it may not be is an Error or a value, never anything else.
void check_value(const GgufFile& file, const GgufValue& value, Input input) {
    confirm(lies_in(value.bytes, input), "the bytes of a value lie in the file");
    confirm(file.find_metadata(value.key) == &value, "a value is found by its key");
    (void)accepted([&] { (void)value.to_vector<std::int16_t>(); });
    (void)accepted([&] { (void)value.to_vector<std::uint64_t>(); });
    (void)accepted([&] { (void)value.to_vector<double>(); });
    (void)accepted([&] { (void)value.to_vector<bool>(); });
    (void)accepted([&] { (void)value.to_vector<std::string_view>(); });
}

void check_rewritten(const GgufFile& file) {
    std::vector<moe::GgufTensorToWrite> tensors;
    for (const GgufTensor& tensor : file.tensors()) {
        if (tensor.name.size() > moe::detail::gguf_max_name) {
            return;  // read, but not written: ggml would not read it
        }
        tensors.push_back({tensor.name, tensor.type, tensor.shape, tensor.bytes});
    }
    std::vector<moe::GgufValueToWrite> metadata;
    for (const GgufValue& value : file.metadata()) {
        metadata.push_back({value.key, to_write(value)});
    }
    const std::vector<std::byte> bytes = moe::gguf_bytes(tensors, metadata);
    const GgufFile again = GgufFile::parse(bytes);
    confirm(std::ranges::equal(again.tensors(), file.tensors(), same), "tensors written are read as they were");
    confirm(std::ranges::equal(again.metadata(), file.metadata(), same_value), "values written are read as they were");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Input input = input_of(data, size);
    const auto strict = parsed<GgufFile>(input, moe::Strictness::strict);
    const auto lenient = parsed<GgufFile>(input, moe::Strictness::lenient);
    if (lenient) {
        taken = true;
        std::vector<Input> parts;
        for (const GgufTensor& tensor : lenient->tensors()) {
            check_tensor(*lenient, tensor, input);
            parts.push_back(tensor.bytes);
        }
        confirm(disjoint(parts), "tensors do not overlap");
        for (const GgufValue& value : lenient->metadata()) {
            check_value(*lenient, value, input);
        }
        constexpr std::size_t page = 4096;
        if (lenient->alignment() <= page) {  // up to a gibibyte of padding would be written
            check_rewritten(*lenient);
        }
    }
    if (strict) {
        confirm(lenient && std::ranges::equal(lenient->tensors(), strict->tensors(), same) &&
                    std::ranges::equal(lenient->metadata(), strict->metadata(), same_value),
                "lenient reading takes all that strict reading takes");
    }
    return 0;
}
