#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf_support.hpp"
#include "moe/io/gguf_file.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::gguf_file_test {

namespace {

using moe::ErrorCode;
using moe::GgufFile;
using moe::GgufType;
using moe_test::Bytes;
using moe_test::error_of;

/// One entry of each type, and one array of each.
Bytes all_types() {
    using namespace raw_gguf;
    return file({entry("u8", 0, number(std::uint8_t{200})),
                 entry("i8", 1, number(std::int8_t{-100})),
                 entry("u16", 2, number(std::uint16_t{60000})),
                 entry("i16", 3, number(std::int16_t{-30000})),
                 entry("u32", 4, number(std::uint32_t{4000000000U})),
                 entry("i32", 5, number(std::int32_t{-2000000000})),
                 entry("f32", 6, number(1.5F)),
                 entry("bool", 7, number(true)),
                 entry("string", 8, text("h\xC3\xA9llo")),
                 entry("u64", 10, number(~std::uint64_t{0})),
                 entry("i64", 11, number((std::numeric_limits<std::int64_t>::min)())),
                 entry("f64", 12, number(0.1)),
                 entry("empty string", 8, text("")),
                 array_entry("u8s", 0, 2, std::string("\x01\xFF", 2)),
                 array_entry("i8s", 1, 2, std::string("\x01\xFF", 2)),
                 array_entry("u16s", 2, 1, number(std::uint16_t{7})),
                 array_entry("i16s", 3, 1, number(std::int16_t{-7})),
                 array_entry("u32s", 4, 2, u32(1) + u32(2)),
                 array_entry("i32s", 5, 2, number(-1) + number(2)),
                 array_entry("f32s", 6, 2, number(0.5F) + number(-0.0F)),
                 array_entry("bools", 7, 3, std::string("\0\1\0", 3)),
                 array_entry("strings", 8, 3, text("a") + text("") + text("bcd")),
                 array_entry("u64s", 10, 1, u64(5)),
                 array_entry("i64s", 11, 1, number(std::int64_t{-5})),
                 array_entry("f64s", 12, 2, number(0.25) + number(1e300)),
                 array_entry("none", 8, 0, "")},
                {});
}

}  // namespace

TEST_CASE("metadata of every type is read where it lies", "[io][gguf]") {
    const Bytes bytes = all_types();
    const GgufFile file = GgufFile::parse(bytes);
    CHECK(file.version() == 3);
    CHECK(file.alignment() == 32);
    CHECK(file.tensors().empty());
    REQUIRE(file.metadata().size() == 26);
    CHECK(file.metadata()[0].key == "u8");
    CHECK(file.metadata()[25].key == "none");

    CHECK(file.metadata_at("u8").as<std::uint8_t>() == 200);
    CHECK(file.metadata_at("i8").as<std::int8_t>() == -100);
    CHECK(file.metadata_at("u16").as<std::uint16_t>() == 60000);
    CHECK(file.metadata_at("i16").as<std::int16_t>() == -30000);
    CHECK(file.metadata_at("u32").as<std::uint32_t>() == 4000000000U);
    CHECK(file.metadata_at("i32").as<std::int32_t>() == -2000000000);
    CHECK(file.metadata_at("f32").as<float>() == 1.5F);
    CHECK(file.metadata_at("bool").as<bool>());
    CHECK(file.metadata_at("string").as<std::string>() == "h\xC3\xA9llo");
    CHECK(file.metadata_at("u64").as<std::uint64_t>() == ~std::uint64_t{0});
    CHECK(file.metadata_at("i64").as<std::int64_t>() == (std::numeric_limits<std::int64_t>::min)());
    CHECK(std::bit_cast<std::uint64_t>(file.metadata_at("f64").as<double>()) == std::bit_cast<std::uint64_t>(0.1));
    CHECK(file.metadata_at("empty string").as<std::string_view>().empty());

    CHECK(file.metadata_at("u8s").to_vector<int>() == std::vector<int>{1, 255});
    CHECK(file.metadata_at("i8s").to_vector<int>() == std::vector<int>{1, -1});
    CHECK(file.metadata_at("u16s").to_vector<std::size_t>() == std::vector<std::size_t>{7});
    CHECK(file.metadata_at("i16s").to_vector<std::int64_t>() == std::vector<std::int64_t>{-7});
    CHECK(file.metadata_at("u32s").to_vector<std::size_t>() == std::vector<std::size_t>{1, 2});
    CHECK(file.metadata_at("i32s").to_vector<std::int32_t>() == std::vector<std::int32_t>{-1, 2});
    CHECK(file.metadata_at("f32s").to_vector<float>() == std::vector<float>{0.5F, -0.0F});
    CHECK(file.metadata_at("bools").to_vector<bool>() == std::vector<bool>{false, true, false});
    CHECK(file.metadata_at("strings").to_vector<std::string>() == std::vector<std::string>{"a", "", "bcd"});
    CHECK(file.metadata_at("u64s").to_vector<std::uint64_t>() == std::vector<std::uint64_t>{5});
    CHECK(file.metadata_at("i64s").to_vector<std::int64_t>() == std::vector<std::int64_t>{-5});
    CHECK(file.metadata_at("f64s").to_vector<double>() == std::vector<double>{0.25, 1e300});
    CHECK(file.metadata_at("none").to_vector<std::string_view>().empty());
    CHECK(file.metadata_at("strings").is_array);
    CHECK(file.metadata_at("strings").count == 3);

    const auto text = file.metadata_at("string").as<std::string_view>();
    CHECK(static_cast<const void*>(text.data()) > static_cast<const void*>(bytes.data()));
    CHECK(static_cast<const void*>(text.data()) < static_cast<const void*>(bytes.data() + bytes.size()));
    const auto texts = file.metadata_at("strings").to_vector<std::string_view>();
    CHECK(static_cast<const void*>(texts[2].data()) > static_cast<const void*>(text.data()));
    CHECK(static_cast<const void*>(texts[2].data()) < static_cast<const void*>(bytes.data() + bytes.size()));
}

TEST_CASE("metadata is read as other types that hold it, one value as an array of one", "[io][gguf]") {
    const Bytes bytes = all_types();
    const GgufFile file = GgufFile::parse(bytes);
    CHECK(file.metadata_at("u32").as<std::size_t>() == 4000000000U);
    CHECK(file.metadata_at("u8").as<std::int16_t>() == 200);
    CHECK(file.metadata_at("f32").as<double>() == 1.5);
    CHECK(file.metadata_at("f32s").to_vector<double>() == std::vector<double>{0.5, 0.0});
    CHECK(file.metadata_at("u16").to_vector<std::size_t>() == std::vector<std::size_t>{60000});
    CHECK(file.metadata_at("string").to_vector<std::string>() == std::vector<std::string>{"h\xC3\xA9llo"});

    const auto refused = [&](const char* key, auto type, ErrorCode code, const std::string& text) {
        using T = decltype(type);
        INFO(key);
        const CaughtError one = error_of([&] { (void)file.metadata_at(key).as<T>(); });
        CHECK(static_cast<int>(one.code) == static_cast<int>(code));
        CHECK_THAT(one.text, moe_test::contains(text));
    };
    refused("u8", std::int8_t{}, ErrorCode::range, "'u8' is 200");
    refused("i8", std::size_t{}, ErrorCode::range, "'i8' is -100");
    refused("u64", std::int64_t{}, ErrorCode::range, "'u64' is 18446744073709551615");
    refused("i64", std::int32_t{}, ErrorCode::range, "'i64' is -9223372036854775808");
    refused("f32", int{}, ErrorCode::unknown_type, "'f32' is FLOAT32, not an integer");
    refused("u32", float{}, ErrorCode::unknown_type, "'u32' is UINT32, not FLOAT32");
    refused("f64", float{}, ErrorCode::unknown_type, "'f64' is FLOAT64, not FLOAT32");
    refused("bool", int{}, ErrorCode::unknown_type, "'bool' is BOOL, not an integer");
    refused("u8", bool{}, ErrorCode::unknown_type, "'u8' is UINT8, not BOOL");
    refused("string", double{}, ErrorCode::unknown_type, "'string' is STRING, not FLOAT32 or FLOAT64");
    refused("u8", std::string_view{}, ErrorCode::unknown_type, "'u8' is UINT8, not STRING");
    refused("u8s", std::uint8_t{}, ErrorCode::unknown_type, "'u8s' is an array of UINT8, not an integer");
    refused("none", std::string{}, ErrorCode::unknown_type, "'none' is an array of STRING, not STRING");
    // the array confusion of llama.cpp: INT8 elements read as floats
    const CaughtError wrong = error_of([&] { (void)file.metadata_at("i8s").to_vector<float>(); });
    CHECK_THAT(wrong.text, moe_test::contains("'i8s' is an array of INT8, not FLOAT32"));
    const CaughtError too_small = error_of([&] { (void)file.metadata_at("i8s").to_vector<std::uint8_t>(); });
    CHECK(static_cast<int>(too_small.code) == static_cast<int>(ErrorCode::range));
    CHECK_THAT(too_small.text, moe_test::contains("'i8s' is -1"));
}

TEST_CASE("tensors have the shape of their rows, and their bytes where they lie", "[io][gguf]") {
    using namespace raw_gguf;
    const Bytes bytes = file({u32_entry("general.alignment", 64)},
                             {tensor("blk.0.ffn_down_exps.weight", {64, 3, 2}, 8, 64),  // Q8_0: 68 bytes a row
                              tensor("scalar", {}, 0, 0), tensor("ids", {3}, 26, 512), tensor("none", {32, 0}, 2, 576)},
                             data(64 + 448 + 64), 64);
    const GgufFile file = GgufFile::parse(bytes);
    CHECK(file.alignment() == 64);
    REQUIRE(file.tensors().size() == 4);
    const moe::GgufTensor& stack = file.at("blk.0.ffn_down_exps.weight");
    CHECK(&stack == &file.tensors()[0]);
    CHECK(file.find("blk.0.ffn_down_exps.weight") == &stack);
    CHECK(file.find("blk.0") == nullptr);
    CHECK(stack.type == moe::find_block_type("Q8_0"));
    CHECK(stack.shape == std::vector<std::size_t>{2, 3, 64});
    CHECK(stack.element_count() == 384);
    CHECK(stack.rows() == 6);
    CHECK(stack.row_values() == 64);
    CHECK(stack.row_bytes() == 68);
    CHECK(stack.bytes.size() == 408);
    CHECK(stack.bytes.data() == bytes.data() + bytes.size() - 576 + 64);
    CHECK((stack.bytes.data() - bytes.data()) % 64 == 0);

    const std::vector<float> all = stack.to_float_vector();
    REQUIRE(all.size() == 384);
    CHECK(stack.to_double_vector() == std::vector<double>(all.begin(), all.end()));
    std::vector<float> two(128);
    stack.decode_rows(3, two);
    CHECK(two == std::vector<float>(all.begin() + 192, all.begin() + 320));
    stack.decode_rows(6, {});

    CHECK(file.at("scalar").shape.empty());
    CHECK(file.at("scalar").element_count() == 1);
    CHECK(file.at("scalar").rows() == 1);
    CHECK(file.at("scalar").to_vector<float>()[0] == std::bit_cast<float>(0x03020100U));
    CHECK(file.at("ids").to_vector<std::int32_t>() == std::vector<std::int32_t>{0x03020100, 0x07060504, 0x0B0A0908});
    CHECK(file.at("ids").is_aligned<std::int32_t>() ==
          (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(std::int32_t) == 0));
    CHECK(static_cast<const void*>(file.at("ids").data_as<std::int32_t>()) == file.at("ids").bytes.data());
    CHECK(file.at("none").rows() == 0);
    CHECK(file.at("none").to_float_vector().empty());

    const auto refused = [&](ErrorCode code, const std::string& text, auto&& action) {
        INFO(text);
        const CaughtError one = error_of(action);
        CHECK(static_cast<int>(one.code) == static_cast<int>(code));
        CHECK_THAT(one.text, moe_test::contains(text));
    };
    refused(ErrorCode::not_found, "none of its 4 tensors is named 'x'", [&] { (void)file.at("x"); });
    refused(ErrorCode::not_found, "none of its 1 metadata entries is named 'x'", [&] { (void)file.metadata_at("x"); });
    refused(ErrorCode::shape, "127 values are no whole rows of 64",
            [&] { stack.decode_rows(0, std::span(two).first(127)); });
    refused(ErrorCode::range, "there are no 2 rows from row 5 on, it has 6", [&] { stack.decode_rows(5, two); });
    refused(ErrorCode::range, "from row 18446744073709551615 on", [&] { stack.decode_rows(~std::size_t{0}, two); });
    refused(ErrorCode::unknown_type, "holds Q8_0, not F32", [&] { (void)stack.data_as<float>(); });
    refused(ErrorCode::unknown_type, "'ids' holds I32, not F16",
            [&] { (void)file.at("ids").to_vector<moe::float16>(); });
    refused(ErrorCode::unknown_type, "'ids' holds I32, not a type this library can decode",
            [&] { (void)file.at("ids").to_float_vector(); });
}

TEST_CASE("a file of version 2 is read, and one without tensors may have no padding", "[io][gguf]") {
    using namespace raw_gguf;
    const Bytes two = bytes_of(padded(head(0, 1, 2) + u32_entry("k", 1)));
    const GgufFile of_two = GgufFile::parse(two);
    CHECK(of_two.version() == 2);
    const Bytes bare = bytes_of(head(0, 1) + u32_entry("k", 1));
    REQUIRE(bare.size() % 32 != 0);
    const GgufFile of_bare = GgufFile::parse(bare);
    CHECK(of_bare.metadata_at("k").as<int>() == 1);
}

TEST_CASE("a type that cannot be decoded hinders no other tensor", "[io][gguf]") {
    using namespace raw_gguf;
    const Bytes bytes = file({}, {tensor("a", {256}, 16, 0), tensor("b", {8}, 0, 96)}, data(96 + 32));
    const GgufFile file = GgufFile::parse(bytes);
    CHECK(file.at("b").to_float_vector().size() == 8);
    CHECK(file.at("a").bytes.size() == 66);
    const CaughtError one = error_of([&] { (void)file.at("a").to_float_vector(); });
    CHECK(static_cast<int>(one.code) == static_cast<int>(ErrorCode::unknown_type));
    CHECK_THAT(one.text, moe_test::contains("'a' holds IQ2_XXS, not a type this library can decode"));
}

TEST_CASE("lenient reading passes over bytes after the last tensor and padding that is missing", "[io][gguf]") {
    using namespace raw_gguf;
    const auto with = [](std::size_t n) { return file({}, {tensor("a", {3}, 0, 0)}, data(n)); };
    for (const std::size_t n : {std::size_t{12}, std::size_t{31}, std::size_t{33}, std::size_t{1000}}) {
        const Bytes bytes = with(n);
        const GgufFile lenient = GgufFile::parse(bytes, moe::Strictness::lenient);
        CHECK(lenient.at("a").bytes.size() == 12);
        CHECK(moe_test::caught([&] { (void)GgufFile::parse(bytes); }).has_value());
    }
    const Bytes exact = with(32);
    const GgufFile strict = GgufFile::parse(exact);
    CHECK(strict.at("a").bytes.size() == 12);
    const Bytes cut = with(11);
    const auto error = moe_test::caught([&] { (void)GgufFile::parse(cut, moe::Strictness::lenient); });
    REQUIRE(error.has_value());
    CHECK(static_cast<int>(error->code) == static_cast<int>(ErrorCode::truncated));
}

TEST_CASE("a file on disk is mapped or copied, and survives a move", "[io][gguf]") {
    using namespace raw_gguf;
    const moe_test::TemporaryDirectory directory;
    const std::string path = directory.file("a.gguf");
    moe_test::write_file(path, file({u32_entry("k", 7)}, {tensor("a", {8}, 0, 0)}, data(32)));
    for (const moe::ReadMode mode : {moe::ReadMode::map, moe::ReadMode::read}) {
        GgufFile first = GgufFile::open(path, mode);
        const moe::GgufTensor* const tensor = &first.at("a");
        const GgufFile second = std::move(first);
        CHECK(&second.at("a") == tensor);
        CHECK(tensor->bytes.size() == 32);
        CHECK(tensor->bytes[31] == std::byte{31});
        CHECK(second.metadata_at("k").as<int>() == 7);
        const CaughtError error = error_of([&] { (void)second.at("b"); });
        CHECK_THAT(error.text, moe_test::contains("a.gguf"));
    }
    CHECK(static_cast<int>(error_of([&] { (void)GgufFile::open(directory.file("b.gguf")); }).code) ==
          static_cast<int>(ErrorCode::file));
    CHECK(static_cast<int>(error_of([&] { (void)GgufFile::open(directory.file("")); }).code) ==
          static_cast<int>(ErrorCode::file));
}

}  // namespace moe_test::gguf_file_test
