#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "io/gguf_support.hpp"
#include "moe/io/gguf_file.hpp"
#include "moe/io/gguf_writer.hpp"
#include "support/catch.hpp"

namespace moe_test::gguf_roundtrip_test {

namespace {

using moe::ErrorCode;
using moe::GgufFile;
using moe::GgufTensorToWrite;
using moe::GgufValueToWrite;
using moe_test::Bytes;
using moe_test::caught;

Bytes pattern(std::size_t size, unsigned seed) {
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; ++i) {
        bytes[i] = static_cast<std::byte>((i * 37 + seed) & 0xFFU);
    }
    return bytes;
}

/// One entry of each alternative of moe::GgufMetadataValue.
std::vector<GgufValueToWrite> all_metadata() {
    return {{"general.architecture", "llama"},
            {"u8", std::uint8_t{200}},
            {"i8", std::int8_t{-100}},
            {"u16", std::uint16_t{60000}},
            {"i16", std::int16_t{-30000}},
            {"u32", std::uint32_t{4000000000U}},
            {"i32", -2000000000},
            {"f32", 1.5F},
            {"yes", true},
            {"no", false},
            {"text", std::string("a\0b", 3)},
            {"u64", ~std::uint64_t{0}},
            {"i64", std::int64_t{-5}},
            {"f64", 0.1},
            {"u8s", std::vector<std::uint8_t>{1, 255}},
            {"i8s", std::vector<std::int8_t>{1, -1}},
            {"u16s", std::vector<std::uint16_t>{7}},
            {"i16s", std::vector<std::int16_t>{-7}},
            {"u32s", std::vector<std::uint32_t>{1, 2}},
            {"i32s", std::vector<std::int32_t>{-1, 2}},
            {"f32s", std::vector<float>{0.5F}},
            {"bools", std::vector<bool>{true, false, true}},
            {"texts", std::vector<std::string>{"a", "", "\xE2\x82\xAC"}},
            {"u64s", std::vector<std::uint64_t>{5}},
            {"i64s", std::vector<std::int64_t>{-5, 5}},
            {"f64s", std::vector<double>{0.1, 1e300}},
            {"nothing", std::vector<std::string>{}}};
}

/// Whether `value` is stored as T, alone or in an array, and has the value that was written.
struct SameValue {
    const moe::GgufValue& value;

    template <class T>
    bool operator()(const T& expected) const {
        return !value.is_array && value.as<T>() == expected;
    }
    template <class T>
    bool operator()(const std::vector<T>& expected) const {
        return value.is_array && value.to_vector<T>() == expected;
    }
};

/// A tensor of every type there is, of two rows of two blocks, and what is special.
struct Collection {
    std::vector<Bytes> data;
    std::vector<GgufTensorToWrite> tensors;

    Collection() {
        data.reserve(moe::block_types.size());
        for (const moe::BlockType& type : moe::block_types) {
            data.push_back(pattern(4 * type.block_bytes, type.number));
            tensors.push_back({"of." + std::string(type.name), &type, {2, 2 * type.block_values}, data.back()});
        }
        const std::span<const std::byte> bytes = data.front();
        tensors.push_back({"scalar", moe::find_block_type("F32"), {}, bytes.first(4)});
        tensors.push_back({"empty", moe::find_block_type("Q4_K"), {3, 0, 256}, {}});
        tensors.push_back({"four", moe::find_block_type("I8"), {1, 2, 4, 2}, bytes.first(16)});
    }
};

void check_equal(const GgufFile& file, std::span<const GgufTensorToWrite> expected) {
    REQUIRE(file.tensors().size() == expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const moe::GgufTensor& tensor = file.tensors()[i];
        INFO(expected[i].name);
        CHECK(tensor.name == expected[i].name);
        CHECK(tensor.type == expected[i].type);
        CHECK(tensor.shape == expected[i].shape);
        CHECK(std::equal(tensor.bytes.begin(), tensor.bytes.end(), expected[i].bytes.begin(), expected[i].bytes.end()));
        CHECK(file.find(expected[i].name) == &tensor);
    }
}

void check_equal(const GgufFile& file, const std::vector<GgufValueToWrite>& expected) {
    REQUIRE(file.metadata().size() == expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
        INFO(expected[i].key);
        CHECK(file.metadata()[i].key == expected[i].key);
        CHECK(std::visit(SameValue{file.metadata()[i]}, expected[i].value));
        // the alternatives stand in the order of the types, without that of arrays
        const std::size_t alternative = expected[i].value.index() % 12;
        CHECK(static_cast<std::size_t>(file.metadata()[i].type) == alternative + (alternative >= 9 ? 1U : 0U));
    }
}

}  // namespace

TEST_CASE("what is written as GGUF is read back: bytes, mapped, copied", "[io][gguf]") {
    const Collection collection;
    std::vector<GgufValueToWrite> metadata = all_metadata();
    const moe_test::TemporaryDirectory directory;
    const std::string path = directory.file("all.gguf");
    for (const std::uint32_t alignment : {32U, 1U, 8U, 8192U}) {
        INFO("alignment " << alignment);
        if (alignment != 32) {
            metadata.resize(all_metadata().size());
            metadata.push_back({"general.alignment", alignment});
        }
        const Bytes bytes = moe::gguf_bytes(collection.tensors, metadata);
        CHECK(bytes.size() % alignment == 0);
        const GgufFile parsed = GgufFile::parse(bytes);
        CHECK(parsed.alignment() == alignment);
        check_equal(parsed, collection.tensors);
        check_equal(parsed, metadata);

        moe::write_gguf(path, collection.tensors, metadata);
        CHECK(moe_test::read_file(path) == bytes);
        CHECK(directory.entries() == 1);
        for (const moe::ReadMode mode : {moe::ReadMode::map, moe::ReadMode::read}) {
            const GgufFile file = GgufFile::open(path, mode);
            check_equal(file, collection.tensors);
            check_equal(file, metadata);
        }
    }
}

TEST_CASE("a written GGUF file has the bytes of the format", "[io][gguf]") {
    using namespace raw_gguf;
    const std::vector<float> values{1, 2, 3, 4, 5, 6};
    const std::vector<GgufTensorToWrite> tensors{moe::gguf_tensor_to_write<float>("w", {3, 2}, values)};
    const std::vector<GgufValueToWrite> metadata{{"k", "v"}, {"l", std::vector<bool>{true, false}}};
    std::string floats;
    for (const float value : values) {
        floats += number(value);
    }
    CHECK(moe::gguf_bytes(tensors, metadata) ==
          file({entry("k", 8, text("v")), array_entry("l", 7, 2, std::string("\1\0", 2))}, {tensor("w", {2, 3}, 0, 0)},
               padded(floats)));
    CHECK(moe::gguf_bytes({}) == bytes_of(padded(head(0, 0))));
}

TEST_CASE("elements are written as the type that ggml has for them", "[io][gguf]") {
    const auto type_of = [](const GgufTensorToWrite& tensor) { return std::string(tensor.type->name); };
    CHECK(type_of(moe::gguf_tensor_to_write<moe::float16>("a", {0}, {})) == "F16");
    CHECK(type_of(moe::gguf_tensor_to_write<moe::bfloat16>("a", {0}, {})) == "BF16");
    CHECK(type_of(moe::gguf_tensor_to_write<double>("a", {0}, {})) == "F64");
    CHECK(type_of(moe::gguf_tensor_to_write<std::int8_t>("a", {0}, {})) == "I8");
    CHECK(type_of(moe::gguf_tensor_to_write<std::int16_t>("a", {0}, {})) == "I16");
    CHECK(type_of(moe::gguf_tensor_to_write<std::int32_t>("a", {0}, {})) == "I32");
    CHECK(type_of(moe::gguf_tensor_to_write<std::int64_t>("a", {0}, {})) == "I64");
    STATIC_REQUIRE_FALSE(moe::GgufTensorElement<std::uint8_t>);
    STATIC_REQUIRE_FALSE(moe::GgufTensorElement<bool>);
}

TEST_CASE("the writer of GGUF refuses what the reader would, and what ggml would", "[io][gguf]") {
    const Bytes data = pattern(64, 0);
    const auto tensor = [&](std::string name, std::string_view type, std::vector<std::size_t> shape,
                            std::size_t bytes) {
        return GgufTensorToWrite{std::move(name), moe::find_block_type(type), std::move(shape),
                                 std::span(data).first(bytes)};
    };
    struct Refused {
        std::vector<GgufTensorToWrite> tensors;
        std::vector<GgufValueToWrite> metadata;
        ErrorCode code;
        std::string fragment;
    };
    const std::size_t huge = std::size_t{1} << 62U;
    const moe::BlockType copy = *moe::find_block_type("F32");
    GgufTensorToWrite foreign = tensor("a", "F32", {2}, 8);
    foreign.type = &copy;
    const std::vector<Refused> cases{
        {{tensor("", "F32", {2}, 8)}, {}, ErrorCode::header, "the name of a tensor, '', is empty"},
        {{tensor(std::string(1, '\0'), "F32", {2}, 8)}, {}, ErrorCode::header, "'\\x00', is empty or has a zero byte"},
        {{tensor(std::string(64, 'a'), "F32", {2}, 8)}, {}, ErrorCode::range, "a name of 64 bytes is longer than 63"},
        {{tensor("a", "F32", {2}, 8), tensor("a", "F32", {2}, 8)},
         {},
         ErrorCode::duplicate,
         "there already is a tensor named 'a'"},
        {{tensor("a", "F32", {1, 1, 1, 1, 2}, 8)}, {}, ErrorCode::range, "5 dimensions are more than 4"},
        {{tensor("a", "no such type", {2}, 8)}, {}, ErrorCode::unknown_type, "'a': its type is none of block_types"},
        {{foreign}, {}, ErrorCode::unknown_type, "'a': its type is none of block_types"},
        {{tensor("a", "F32", {2}, 12)}, {}, ErrorCode::shape, "'a': its shape and type need 8 bytes, but 12 are given"},
        {{tensor("a", "F32", {}, 0)}, {}, ErrorCode::shape, "need 4 bytes, but 0 are given"},
        {{tensor("a", "Q8_0", {3, 31}, 34)}, {}, ErrorCode::layout, "rows of 31 values are no whole blocks of Q8_0"},
        {{tensor("a", "F32", {huge, 2}, 8)}, {}, ErrorCode::overflow, "'a': its size, 9223372036854775808 x 4"},
        {{tensor("a", "I8", {2 * huge}, 8)}, {}, ErrorCode::overflow, "a dimension is 9223372036854775808"},
        {{}, {{"", "v"}}, ErrorCode::header, "the name of a metadata entry, '', is empty"},
        {{}, {{"k", "v"}, {"k", 1}}, ErrorCode::duplicate, "there already is a metadata entry named 'k'"},
        {{}, {{"general.alignment", 32}}, ErrorCode::header, "general.alignment is not a std::uint32_t"},
        {{}, {{"general.alignment", 24U}}, ErrorCode::range, "general.alignment is 24, not a power of two"},
        {{}, {{"general.alignment", 0U}}, ErrorCode::range, "general.alignment is 0"},
    };
    const moe_test::TemporaryDirectory directory;
    for (const Refused& one : cases) {
        INFO(one.fragment);
        const auto error = caught([&] { (void)moe::gguf_bytes(one.tensors, one.metadata); });
        REQUIRE(error.has_value());
        CHECK(static_cast<int>(error->code) == static_cast<int>(one.code));
        CHECK_THAT(error->text, moe_test::contains(one.fragment));
        const auto on_disk = caught([&] { moe::write_gguf(directory.file("x.gguf"), one.tensors, one.metadata); });
        REQUIRE(on_disk.has_value());
        CHECK(on_disk->text == error->text);
        CHECK(directory.entries() == 0);
    }
}

TEST_CASE("a GGUF file is replaced whole or not at all", "[io][gguf]") {
    const moe_test::TemporaryDirectory directory;
    const std::string path = directory.file("x.gguf");
    const std::vector<GgufValueToWrite> first{{"k", 1U}};
    const std::vector<GgufValueToWrite> second{{"k", 2U}};
    moe::write_gguf(path, {}, first);
    const GgufFile mapped = GgufFile::open(path);
    moe::write_gguf(path, {}, second);
    const GgufFile again = GgufFile::open(path);
    CHECK(mapped.metadata_at("k").as<int>() == 1);
    CHECK(again.metadata_at("k").as<int>() == 2);
    const std::string nowhere = directory.file("no/such/x.gguf");
    const auto error = caught([&] { moe::write_gguf(nowhere, {}, first); });
    REQUIRE(error.has_value());
    CHECK(static_cast<int>(error->code) == static_cast<int>(ErrorCode::file));
    CHECK(directory.entries() == 1);
}

TEST_CASE("a file written by ggml is written again to its bytes", "[io][gguf]") {
    for (const std::string name : {"gpt_oss_mxfp4", "mixtral_q4_k_m", "qwen3moe_q8_0"}) {
        INFO(name);
        const std::string path = std::string(MOE_TEST_DATA_DIR) + "/golden/quantised/layers/" + name + ".gguf";
        const GgufFile file = GgufFile::open(path);
        std::vector<GgufTensorToWrite> tensors;
        for (const moe::GgufTensor& tensor : file.tensors()) {
            tensors.push_back({tensor.name, tensor.type, tensor.shape, tensor.bytes});
        }
        std::vector<GgufValueToWrite> metadata;
        for (const moe::GgufValue& value : file.metadata()) {
            REQUIRE_FALSE(value.is_array);
            if (value.type == moe::GgufType::string) {
                metadata.push_back({value.key, value.as<std::string>()});
            } else {
                REQUIRE(value.type == moe::GgufType::u32);
                metadata.push_back({value.key, value.as<std::uint32_t>()});
            }
        }
        CHECK((moe::gguf_bytes(tensors, metadata) == moe_test::read_file(path)));
    }
}

}  // namespace moe_test::gguf_roundtrip_test
