#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "io/support.hpp"
#include "moe/io/safetensors.hpp"
#include "moe/io/safetensors_writer.hpp"
#include "support/catch.hpp"

namespace moe_test::safetensors_roundtrip_test {

namespace {

using moe::DType;
using moe::ErrorCode;
using moe::SafetensorsFile;
using moe::TensorToWrite;
using moe_test::Bytes;
using moe_test::caught;

constexpr std::array all_dtypes{DType::boolean, DType::u8,  DType::i8,  DType::f8_e4m3, DType::f8_e5m2, DType::f8_e8m0,
                                DType::u16,     DType::i16, DType::f16, DType::bf16,    DType::u32,     DType::i32,
                                DType::f32,     DType::u64, DType::i64, DType::f64};

std::size_t elements_of(const std::vector<std::size_t>& shape) {
    std::size_t count = 1;
    for (const std::size_t extent : shape) {
        count *= extent;
    }
    return count;
}

Bytes pattern(std::size_t count, std::size_t seed) {
    Bytes bytes(count);
    for (std::size_t i = 0; i < count; ++i) {
        bytes[i] = static_cast<std::byte>((i * 37 + seed * 11 + 5) & 0xFFU);
    }
    return bytes;
}

/// Every dtype in every shape, in an order in which sizes rise and fall.
struct Collection {
    std::vector<Bytes> storage;
    std::vector<TensorToWrite> tensors;

    Collection() {
        const std::vector<std::vector<std::size_t>> shapes{{},     {0},       {1},       {7},
                                                           {3, 5}, {2, 0, 4}, {1, 1, 1}, {2, 3, 2, 3}};
        storage.reserve(shapes.size() * all_dtypes.size());
        for (std::size_t s = 0; s < shapes.size(); ++s) {
            for (const DType dtype : all_dtypes) {
                const std::size_t seed = storage.size();
                storage.push_back(pattern(elements_of(shapes[s]) * moe::dtype_size(dtype), seed));
                tensors.push_back({std::string(moe::dtype_name(dtype)) + ".é\n\"" + std::to_string(s), dtype, shapes[s],
                                   storage.back()});
            }
        }
    }
};

void check_equal(const SafetensorsFile& file, std::span<const TensorToWrite> expected) {
    REQUIRE(file.tensors().size() == expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const moe::TensorView& tensor = file.tensors()[i];
        INFO(expected[i].name);
        CHECK(tensor.name == expected[i].name);
        CHECK(static_cast<int>(tensor.dtype) == static_cast<int>(expected[i].dtype));
        CHECK(tensor.shape == expected[i].shape);
        REQUIRE(tensor.bytes.size() == expected[i].bytes.size());
        CHECK(std::equal(tensor.bytes.begin(), tensor.bytes.end(), expected[i].bytes.begin()));
        CHECK(file.find(expected[i].name) == &tensor);
        CHECK(&file.at(expected[i].name) == &tensor);
    }
}

}  // namespace

TEST_CASE("dtypes have the names and sizes of the format", "[io][dtype]") {
    CHECK(moe::dtype_name(DType::boolean) == "BOOL");
    CHECK(moe::dtype_name(DType::f8_e4m3) == "F8_E4M3");
    CHECK(moe::dtype_name(DType::bf16) == "BF16");
    CHECK(moe::dtype_name(DType::f64) == "F64");
    std::vector<std::size_t> sizes;
    for (const DType dtype : all_dtypes) {
        sizes.push_back(moe::dtype_size(dtype));
        const auto found = moe::find_dtype(moe::dtype_name(dtype));
        REQUIRE(found.has_value());
        CHECK(static_cast<int>(*found) == static_cast<int>(dtype));
    }
    CHECK(sizes == std::vector<std::size_t>{1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 8, 8, 8});
    CHECK_FALSE(moe::find_dtype("F128").has_value());
    CHECK_FALSE(moe::find_dtype("").has_value());
    const auto error = caught([] { (void)moe::dtype_size(static_cast<DType>(16)); });
    REQUIRE(error.has_value());
    CHECK_THAT(error->text, moe_test::contains("16"));

    STATIC_REQUIRE(moe::dtype_of<float> == DType::f32);
    STATIC_REQUIRE(moe::dtype_of<moe::bfloat16> == DType::bf16);
    STATIC_REQUIRE(moe::dtype_of<moe::float16> == DType::f16);
    STATIC_REQUIRE(moe::dtype_of<std::int32_t> == DType::i32);
    STATIC_REQUIRE(moe::dtype_of<long long> == DType::i64);
    STATIC_REQUIRE(moe::dtype_of<unsigned char> == DType::u8);
    STATIC_REQUIRE_FALSE(moe::TensorElement<bool>);
    STATIC_REQUIRE_FALSE(moe::TensorElement<long double>);
    STATIC_REQUIRE(moe::reads_as<std::uint8_t>(DType::boolean));
    STATIC_REQUIRE_FALSE(moe::reads_as<std::int8_t>(DType::boolean));
}

TEST_CASE("what is written is read back: bytes, mapped, copied", "[io][safetensors]") {
    const Collection collection;
    const moe::SafetensorsMetadata metadata{{"format", "pt"}, {"", "empty key"}, {"tab\t\x01\\", "\"é€😀\""}};
    const Bytes bytes = moe::safetensors_bytes(collection.tensors, metadata);
    const SafetensorsFile parsed = SafetensorsFile::parse(bytes);
    check_equal(parsed, collection.tensors);
    CHECK(parsed.metadata() == metadata);

    const moe_test::TemporaryDirectory directory;
    const std::string path = directory.file("all.safetensors");
    moe::write_safetensors(path, collection.tensors, metadata);
    CHECK(moe_test::read_file(path) == bytes);
    CHECK(directory.entries() == 1);
    for (const moe::ReadMode mode : {moe::ReadMode::map, moe::ReadMode::read}) {
        const SafetensorsFile file = SafetensorsFile::open(path, mode);
        check_equal(file, collection.tensors);
        CHECK(file.metadata() == metadata);
    }
}

TEST_CASE("strings are escaped where JSON asks for it and nowhere else", "[io][safetensors]") {
    const std::vector<TensorToWrite> tensors{{"a\"/\\\n\x01\x7F€😀", DType::u8, {0}, {}}};
    const Bytes bytes = moe::safetensors_bytes(tensors, {{std::string("\0", 1), "\xEF\xBF\xBD"}});
    const std::string text(reinterpret_cast<const char*>(bytes.data()) + 8, bytes.size() - 8);
    CHECK(text.substr(0, text.find_last_not_of(' ') + 1) ==
          "{\"__metadata__\":{\"\\u0000\":\"\xEF\xBF\xBD\"},"
          "\"a\\\"/\\\\\\n\\u0001\x7F€😀\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    const SafetensorsFile file = SafetensorsFile::parse(bytes);
    CHECK(file.at(tensors[0].name).shape == tensors[0].shape);
}

TEST_CASE("a written file has nothing but its tensors", "[io][safetensors]") {
    const Bytes bytes = moe::safetensors_bytes({});
    CHECK(bytes.size() == 64);
    const SafetensorsFile file = SafetensorsFile::parse(bytes);
    CHECK(file.tensors().empty());
    CHECK(file.metadata().empty());
}

TEST_CASE("every tensor of a written file is aligned to its elements", "[io][safetensors]") {
    const Collection collection;
    const moe_test::TemporaryDirectory directory;
    const std::string path = directory.file("aligned.safetensors");
    moe::write_safetensors(path, collection.tensors);
    for (const moe::ReadMode mode : {moe::ReadMode::map, moe::ReadMode::read}) {
        const SafetensorsFile file = SafetensorsFile::open(path, mode);
        for (const moe::TensorView& tensor : file.tensors()) {
            CHECK(reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % moe::dtype_size(tensor.dtype) == 0);
        }
    }
}

TEST_CASE("the writer refuses what the reader would", "[io][safetensors]") {
    const Bytes data = pattern(16, 0);
    const auto tensor = [&](std::string name, std::vector<std::size_t> shape, std::size_t bytes) {
        return TensorToWrite{std::move(name), DType::u16, std::move(shape), std::span(data).first(bytes)};
    };
    struct Refused {
        std::vector<TensorToWrite> tensors;
        moe::SafetensorsMetadata metadata;
        ErrorCode code;
        std::string fragment;
    };
    const std::size_t huge = std::size_t{1} << 63U;
    TensorToWrite untyped = tensor("a", {2}, 4);
    untyped.dtype = static_cast<DType>(99);
    const std::vector<Refused> cases{
        {{tensor("", {2}, 4)}, {}, ErrorCode::header, "neither empty"},
        {{tensor("__metadata__", {2}, 4)}, {}, ErrorCode::header, "'__metadata__'"},
        {{tensor("\xFF", {2}, 4)}, {}, ErrorCode::header, "not UTF-8"},
        {{tensor("a", {2}, 4), tensor("a", {2}, 4)}, {}, ErrorCode::duplicate, "two tensors are named 'a'"},
        {{tensor("a", {2}, 6)}, {}, ErrorCode::shape, "'a': its shape and dtype need 4 bytes, but 6 are given"},
        {{tensor("a", {0}, 2)}, {}, ErrorCode::shape, "need 0 bytes, but 2 are given"},
        {{tensor("a", {}, 0)}, {}, ErrorCode::shape, "need 2 bytes, but 0 are given"},
        {{tensor("a", {huge}, 0)}, {}, ErrorCode::overflow, "9223372036854775808"},
        {{tensor("a", {0, huge}, 0)}, {}, ErrorCode::overflow, "9223372036854775808"},
        {{tensor("a", std::vector<std::size_t>(65, 1), 2)}, {}, ErrorCode::range, "65 dimensions"},
        {{untyped}, {}, ErrorCode::unknown_type, "99"},
        {{}, {{"k", "\xC3"}}, ErrorCode::header, "'k' is not UTF-8"},
        {{}, {{"\xC3", "v"}}, ErrorCode::header, "not UTF-8"},
    };
    const moe_test::TemporaryDirectory directory;
    for (const Refused& one : cases) {
        INFO(one.fragment);
        const auto error = caught([&] { (void)moe::safetensors_bytes(one.tensors, one.metadata); });
        REQUIRE(error.has_value());
        CHECK(static_cast<int>(error->code) == static_cast<int>(one.code));
        CHECK_THAT(error->text, moe_test::contains(one.fragment));
        const auto on_disk =
            caught([&] { moe::write_safetensors(directory.file("x.safetensors"), one.tensors, one.metadata); });
        REQUIRE(on_disk.has_value());
        CHECK(on_disk->text == error->text);
        CHECK(directory.entries() == 0);
    }
}

}  // namespace moe_test::safetensors_roundtrip_test
