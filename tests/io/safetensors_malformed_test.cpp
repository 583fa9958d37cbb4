#include <cstdint>
#include <string>
#include <vector>

#include "io/support.hpp"
#include "moe/io/safetensors.hpp"
#include "moe/io/safetensors_writer.hpp"
#include "support/catch.hpp"

namespace moe_test::safetensors_malformed_test {

namespace {

using moe::ErrorCode;
using moe::SafetensorsFile;
using moe_test::Bytes;
using moe_test::caught;
using moe_test::file_of;
using moe_test::length_prefix;

struct Malformed {
    std::string what;
    Bytes file;
    ErrorCode code;
    std::string fragment;  // of the message
};

/// A file with one tensor 'a', whose description is `fields`.
Bytes with_fields(const std::string& fields, std::size_t data_bytes) {
    return file_of("{\"a\":{" + fields + "}}", data_bytes);
}

/// A file with one U8 tensor of this shape and these data offsets.
Bytes with_shape(const std::string& shape, const std::string& offsets, std::size_t data_bytes) {
    return with_fields("\"dtype\":\"U8\",\"shape\":" + shape + ",\"data_offsets\":" + offsets, data_bytes);
}

/// One entry of a header: an U8 tensor over bytes begin to end.
std::string entry(const std::string& name, int begin, int end) {
    return "\"" + name + "\":{\"dtype\":\"U8\",\"shape\":[" + std::to_string(end - begin) + "],\"data_offsets\":[" +
           std::to_string(begin) + "," + std::to_string(end) + "]}";
}

/// `length` as announced, then `rest`.
Bytes announcing(std::uint64_t length, const std::string& rest) {
    Bytes file = length_prefix(length);
    moe_test::append(file, rest);
    return file;
}

std::string repeated(const std::string& text, std::size_t times) {
    std::string result;
    for (std::size_t i = 0; i < times; ++i) {
        result += text;
    }
    return result;
}

std::string many_metadata_entries(std::size_t count) {
    std::string header = "{\"__metadata__\":{\"0\":\"\"";
    for (std::size_t i = 1; i < count; ++i) {
        header += ",\"" + std::to_string(i) + "\":\"\"";
    }
    return header + "}}";
}

std::vector<Malformed> malformed_lengths_and_texts() {
    constexpr std::uint64_t top = ~std::uint64_t{0};
    return {
        {"empty file", {}, ErrorCode::truncated, "0 bytes cannot hold"},
        {"7 bytes", Bytes(7), ErrorCode::truncated, "7 bytes cannot hold"},
        {"header length 0", announcing(0, "{}"), ErrorCode::header, "a header of 0 bytes"},
        {"header longer than the file", announcing(3, "{}"), ErrorCode::truncated,
         "the header of 3 bytes is cut off after 2"},
        {"header at the cap, not there", announcing(100'000'000, "{}"), ErrorCode::truncated, "100000000"},
        {"header above the cap", announcing(100'000'001, "{}"), ErrorCode::header, "a header of 100000001 bytes"},
        {"length + 8 wraps to 0", announcing(top - 7, "{}"), ErrorCode::header, "18446744073709551608"},
        {"length is the largest number", announcing(top, "{}"), ErrorCode::header, "18446744073709551615"},
        {"length is negative as a signed number", announcing(std::uint64_t{1} << 63U, "{}"), ErrorCode::header,
         "9223372036854775808"},
        {"length in big-endian order", announcing(std::uint64_t{2} << 56U, "{}"), ErrorCode::header,
         "144115188075855872"},
        {"a GGUF file", announcing(0x0000000346554747ULL, "{}"), ErrorCode::header, "14064895815"},
        {"UTF-8: a continuation byte alone", file_of("{\"\x80\":1}"), ErrorCode::header, "'\\x80' at byte 2"},
        {"UTF-8: overlong", file_of("{\"\xC0\xAF\":1}"), ErrorCode::header, "'\\xC0' at byte 2"},
        {"UTF-8: overlong, three bytes", file_of("{\"\xE0\x80\xAF\":1}"), ErrorCode::header, "'\\x80' at byte 3"},
        {"UTF-8: a surrogate", file_of("{\"\xED\xA0\x80\":1}"), ErrorCode::header, "'\\xA0' at byte 3"},
        {"UTF-8: above U+10FFFF", file_of("{\"\xF4\x90\x80\x80\":1}"), ErrorCode::header, "'\\x90' at byte 3"},
        {"UTF-8: beyond four bytes", file_of("{\"\xF8\x88\x80\x80\x80\":1}"), ErrorCode::header, "'\\xF8' at byte 2"},
        {"UTF-8: the byte 0xFF", file_of("{\"\xFF\":1}"), ErrorCode::header, "'\\xFF' at byte 2"},
        {"UTF-8: cut off by the end", file_of("{\"\xE2\x82"), ErrorCode::header, "ends at byte 4"},
        {"UTF-8: third byte wrong", file_of("{\"\xE2\x82\x41\":1}"), ErrorCode::header, "'A' at byte 4"},
        {"UTF-8: in a value", file_of("{\"__metadata__\":{\"k\":\"\x80\"}}"), ErrorCode::header, "'\\x80' at byte 22"},
        {"UTF-8: outside of strings", file_of("{\xFF}"), ErrorCode::syntax, "'\\xFF' at byte 1"},
        {"UTF-16", file_of(std::string("{\0}\0", 4)), ErrorCode::syntax, "'\\x00' at byte 1"},
        {"byte order mark", file_of("\xEF\xBB\xBF{}"), ErrorCode::header, "begins with '\\xEF', not with '{'"},
        {"white space first", file_of(" {}"), ErrorCode::header, "begins with ' '"},
        {"an array", file_of("[]"), ErrorCode::header, "begins with '['"},
        {"no JSON at all", file_of("hello"), ErrorCode::header, "begins with 'h'"},
        {"pickle", file_of("\x80\x02}q"), ErrorCode::header, "begins with '\\x80'"},
        {"only an opening brace", file_of("{"), ErrorCode::syntax, "ends at byte 1"},
        {"object not closed", file_of("{\"a\""), ErrorCode::syntax, "ends at byte 4"},
        {"key not quoted", file_of("{a:1}"), ErrorCode::syntax, "'a' at byte 1"},
        {"no colon", file_of("{\"a\" {}}"), ErrorCode::syntax, "'{' at byte 5"},
        {"comma at the end", file_of("{" + entry("a", 0, 1) + ",}", 1), ErrorCode::syntax, "'}' at byte"},
        {"two commas", file_of("{" + entry("a", 0, 1) + ",,}", 1), ErrorCode::syntax, "',' at byte"},
        {"no comma", file_of("{" + entry("a", 0, 1) + entry("b", 1, 2) + "}", 2), ErrorCode::syntax, "'\"' at byte"},
        {"a second object after the first", file_of("{}{}"), ErrorCode::syntax, "'{' at byte 2"},
        {"a letter after the object", file_of("{}  x"), ErrorCode::syntax, "'x' at byte 4"},
        {"zero bytes as padding", file_of(std::string("{}\0\0", 4)), ErrorCode::syntax, "'\\x00' at byte 2"},
        {"bytes hidden behind a zero byte", file_of(std::string("{}\0{\"a\":1}", 10)), ErrorCode::syntax,
         "'\\x00' at byte 2"},
        {"a zero byte for a comma", file_of("{" + entry("a", 0, 1) + std::string(1, '\0') + entry("b", 1, 2) + "}", 2),
         ErrorCode::syntax, "'\\x00' at byte"},
        {"a zero byte in a name", file_of(std::string("{\"a\0b\":1}", 9)), ErrorCode::syntax, "'\\x00' at byte 3"},
        {"a comment", file_of("{/**/}"), ErrorCode::syntax, "'/' at byte 1"},
        {"a control character in a name", file_of("{\"a\nb\":1}"), ErrorCode::syntax, "'\\x0A' at byte 3"},
        {"an unknown escape", file_of("{\"\\x41\":1}"), ErrorCode::syntax, "'x' at byte 3"},
        {"half a surrogate pair", file_of("{\"\\uD800\":1}"), ErrorCode::syntax, "'\"' at byte 8"},
        {"a low surrogate alone", file_of("{\"\\uDC00\":1}"), ErrorCode::syntax, "'0' at byte 7"},
        {"two high surrogates", file_of("{\"\\uD800\\uD800\":1}"), ErrorCode::syntax, "'0' at byte 13"},
        {"an escape with three digits", file_of("{\"\\u123\":1}"), ErrorCode::syntax, "'\"' at byte 7"},
        {"an escape at the end", file_of("{\"\\u12"), ErrorCode::syntax, "ends at byte 6"},
        {"a very long string without end", file_of("{\"" + repeated("a", 100000)), ErrorCode::syntax,
         "ends at byte 100002"},
        {"a string without end", file_of("{\"abc"), ErrorCode::syntax, "ends at byte 5"},
        {"a backslash at the end", file_of("{\"abc\\"), ErrorCode::syntax, "ends at byte 6"},
    };
}

std::vector<Malformed> malformed_structures() {
    const std::string dtype = "\"dtype\":\"U8\"";
    const std::string shape = "\"shape\":[2]";
    const std::string offsets = "\"data_offsets\":[0,2]";
    const auto fields = [&](const std::string& a, const std::string& b, const std::string& c) {
        return with_fields(a + "," + b + "," + c, 2);
    };
    return {
        {"tensor is a number", file_of("{\"a\":1}"), ErrorCode::header,
         "'a': its description is a number, not an object"},
        {"tensor is null", file_of("{\"a\":null}"), ErrorCode::header, "is true, false or null, not an object"},
        {"tensor is a deep array", file_of("{\"a\":" + repeated("[", 100000)), ErrorCode::header, "is an array"},
        {"tensor is a deep object", file_of("{\"a\":" + repeated("{\"a\":", 100000)), ErrorCode::header,
         "unknown field 'a'"},
        {"no fields", file_of("{\"a\":{}}"), ErrorCode::header, "'a': no dtype"},
        {"dtype missing", with_fields(shape + "," + offsets, 2), ErrorCode::header, "'a': no dtype"},
        {"shape missing", with_fields(dtype + "," + offsets, 2), ErrorCode::header, "'a': no shape"},
        {"offsets missing", with_fields(dtype + "," + shape, 2), ErrorCode::header, "'a': no data_offsets"},
        {"unknown field", with_fields(dtype + "," + shape + "," + offsets + ",\"x\":1", 2), ErrorCode::header,
         "'a': unknown field 'x'"},
        {"dtype twice", with_fields(dtype + "," + dtype, 2), ErrorCode::duplicate, "'a': the field dtype stands twice"},
        {"shape twice", with_fields(shape + "," + shape, 2), ErrorCode::duplicate, "the field shape stands twice"},
        {"offsets twice", with_fields(offsets + "," + offsets, 2), ErrorCode::duplicate,
         "the field data_offsets stands twice"},
        {"a field twice, once escaped", with_fields(dtype + ",\"\\u0064type\":\"F32\"", 2), ErrorCode::duplicate,
         "dtype"},
        {"two tensors of one name",
         file_of("{" + entry("a", 0, 1) + "," + entry("b", 1, 2) + "," + entry("a", 2, 3) + "}", 3),
         ErrorCode::duplicate, "two tensors are named 'a'"},
        {"two names equal once unescaped", file_of("{" + entry("a", 0, 1) + "," + entry("\\u0061", 1, 2) + "}", 2),
         ErrorCode::duplicate, "two tensors are named 'a'"},
        {"empty name", file_of("{" + entry("", 0, 1) + "}", 1), ErrorCode::header, "empty name"},
        {"dtype unknown", fields("\"dtype\":\"F33\"", shape, offsets), ErrorCode::unknown_type,
         "'a': unknown dtype 'F33'"},
        {"dtype in small letters", fields("\"dtype\":\"u8\"", shape, offsets), ErrorCode::unknown_type,
         "unknown dtype 'u8'"},
        {"dtype empty", fields("\"dtype\":\"\"", shape, offsets), ErrorCode::unknown_type, "unknown dtype ''"},
        {"dtype a very long text", fields("\"dtype\":\"" + repeated("F", 5000) + "\"", shape, offsets),
         ErrorCode::unknown_type, "unknown dtype '" + repeated("F", 80) + "'..."},
        {"dtype with control characters", fields("\"dtype\":\"\\u001b[2J\"", shape, offsets), ErrorCode::unknown_type,
         "'\\x1B[2J'"},
        {"dtype a number", fields("\"dtype\":1", shape, offsets), ErrorCode::header, "dtype is a number, not a string"},
        {"shape a number", fields(dtype, "\"shape\":2", offsets), ErrorCode::header, "shape is a number, not an array"},
        {"shape null", fields(dtype, "\"shape\":null", offsets), ErrorCode::header, "shape is true, false or null"},
        {"shape of strings", fields(dtype, "\"shape\":[\"2\"]", offsets), ErrorCode::header,
         "is a string, not a number"},
        {"shape nested", fields(dtype, "\"shape\":[[2]]", offsets), ErrorCode::header, "is an array, not a number"},
        {"shape not closed", with_fields(dtype + ",\"shape\":[2", 2), ErrorCode::syntax, "'}' at byte"},
        {"shape with a comma too many", fields(dtype, "\"shape\":[2,]", offsets), ErrorCode::syntax, "']' at byte"},
        {"offsets an object", fields(dtype, shape, "\"data_offsets\":{}"), ErrorCode::header,
         "is an object, not an array"},
        {"no offset", fields(dtype, shape, "\"data_offsets\":[]"), ErrorCode::header, "0 numbers instead of 2"},
        {"one offset", fields(dtype, shape, "\"data_offsets\":[0]"), ErrorCode::header, "1 numbers instead of 2"},
        {"three offsets", fields(dtype, shape, "\"data_offsets\":[0,1,2]"), ErrorCode::header, "more than 2 numbers"},
        {"offset a string", fields(dtype, shape, "\"data_offsets\":[\"0\",2]"), ErrorCode::header,
         "is a string, not a number"},
        {"metadata an array", file_of("{\"__metadata__\":[]}"), ErrorCode::header,
         "__metadata__ is an array, not an object"},
        {"metadata null", file_of("{\"__metadata__\":null}"), ErrorCode::header, "__metadata__ is true, false or null"},
        {"metadata with a number", file_of("{\"__metadata__\":{\"k\":1}}"), ErrorCode::header,
         "the value of 'k' is a number"},
        {"metadata nested", file_of("{\"__metadata__\":{\"k\":{}}}"), ErrorCode::header,
         "the value of 'k' is an object"},
        {"metadata twice", file_of("{\"__metadata__\":{},\"__metadata__\":{}}"), ErrorCode::duplicate,
         "__metadata__ stands twice"},
        {"metadata key twice", file_of("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}"), ErrorCode::duplicate,
         "the key 'k' stands twice"},
        {"metadata with 65,537 entries", file_of(many_metadata_entries(65537)), ErrorCode::range,
         "more than 65536 entries"},
    };
}

std::vector<Malformed> malformed_numbers_and_layouts() {
    const std::string big = "18446744073709551615";  // 2^64 - 1
    const std::string half = "9223372036854775808";  // 2^63
    const std::string root = "4294967296";           // 2^32
    return {
        {"dimension negative", with_shape("[-2]", "[0,2]", 2), ErrorCode::range,
         "'a': a dimension of shape is negative: '-2'"},
        {"dimension minus zero", with_shape("[-0]", "[0,0]", 0), ErrorCode::range, "negative: '-0'"},
        {"dimension fractional", with_shape("[2.0]", "[0,2]", 2), ErrorCode::header, "'2.0', not an integer"},
        {"dimension with exponent", with_shape("[2e0]", "[0,2]", 2), ErrorCode::header, "'2e0', not an integer"},
        {"dimension beyond every double", with_shape("[1e999]", "[0,2]", 2), ErrorCode::header,
         "'1e999', not an integer"},
        {"dimension with a leading zero", with_shape("[02]", "[0,2]", 2), ErrorCode::syntax, "'2' at byte"},
        {"dimension with a plus", with_shape("[+2]", "[0,2]", 2), ErrorCode::syntax, "'+' at byte"},
        {"dimension hexadecimal", with_shape("[0x2]", "[0,2]", 2), ErrorCode::syntax, "'x' at byte"},
        {"dimension a minus only", with_shape("[-]", "[0,2]", 2), ErrorCode::syntax, "']' at byte"},
        {"dimension -2^63", with_shape("[-9223372036854775808]", "[0,2]", 2), ErrorCode::range,
         "negative: '-9223372036854775808'"},
        {"dimension -2^63 - 1", with_shape("[-9223372036854775809]", "[0,2]", 2), ErrorCode::range,
         "negative: '-9223372036854775809'"},
        {"dimension beyond every double and negative", with_shape("[-" + repeated("9", 5000) + "]", "[0,2]", 2),
         ErrorCode::range, "negative: '-999"},
        {"dtype a number beyond every double", with_fields("\"dtype\":1e999", 0), ErrorCode::header,
         "dtype is a number, not a string"},
        {"dimension NaN", with_shape("[NaN]", "[0,2]", 2), ErrorCode::syntax, "'N' at byte"},
        {"dimension true", with_shape("[true]", "[0,2]", 2), ErrorCode::header, "not a number"},
        {"dimension 2^64", with_shape("[18446744073709551616]", "[0,2]", 2), ErrorCode::overflow,
         "'18446744073709551616'"},
        {"dimension of 5000 digits", with_shape("[" + repeated("9", 5000) + "]", "[0,2]", 2), ErrorCode::overflow,
         "999"},
        {"dimension 2^64 - 1", with_shape("[" + big + "]", "[0,2]", 2), ErrorCode::layout, "need " + big + " bytes"},
        {"product wraps to 0", with_shape("[" + root + "," + root + "]", "[0,0]", 0), ErrorCode::overflow, root},
        {"product wraps to 0, in many steps", with_shape("[65536,65536,65536,65536]", "[0,0]", 0), ErrorCode::overflow,
         "65536"},
        {"product wraps to 2", with_shape("[" + half + ",2,1]", "[0,2]", 2), ErrorCode::overflow, half},
        {"product wraps to 1", with_shape("[" + big + "," + big + "]", "[0,1]", 1), ErrorCode::overflow, big},
        {"product overflows beside a zero", with_shape("[0," + half + ",4]", "[0,0]", 0), ErrorCode::overflow, half},
        {"product overflows before a zero", with_shape("[" + half + ",4,0]", "[0,0]", 0), ErrorCode::overflow, half},
        {"product x element size wraps to 0",
         with_fields("\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]", 0),
         ErrorCode::overflow, "4611686018427387904"},
        {"product x element size wraps to 8",
         with_fields("\"dtype\":\"F64\",\"shape\":[2305843009213693953],\"data_offsets\":[0,8]", 8),
         ErrorCode::overflow, "2305843009213693953"},
        {"65 dimensions", with_shape("[1" + repeated(",1", 64) + "]", "[0,1]", 1), ErrorCode::range,
         "more than 64 dimensions"},
        {"offset negative", with_shape("[2]", "[-1,1]", 2), ErrorCode::range, "data_offsets is negative: '-1'"},
        {"offset fractional", with_shape("[2]", "[0,2.5]", 2), ErrorCode::header, "'2.5', not an integer"},
        {"offset 2^64", with_shape("[2]", "[0,18446744073709551616]", 2), ErrorCode::overflow,
         "a number of data_offsets"},
        {"offsets swapped", with_shape("[2]", "[2,0]", 2), ErrorCode::layout, "begin at 2, after their end at 0"},
        {"data beyond the file", with_shape("[3]", "[0,3]", 2), ErrorCode::truncated,
         "end at byte 3 of the data, but only 2"},
        {"data far beyond the file", with_shape("[2]", "[0," + big + "]", 2), ErrorCode::truncated, big},
        {"begin + size wraps", with_shape("[2]", "[" + big + ",1]", 2), ErrorCode::layout, "begin at " + big},
        {"empty tensor beyond the file", with_shape("[0]", "[9,9]", 0), ErrorCode::truncated, "byte 9"},
        {"fewer bytes than the shape needs", with_shape("[3]", "[0,2]", 2), ErrorCode::layout,
         "need 3 bytes, but data_offsets span 2"},
        {"more bytes than the shape needs", with_shape("[1]", "[0,2]", 2), ErrorCode::layout, "need 1 bytes"},
        {"scalar without bytes", with_shape("[]", "[0,0]", 0), ErrorCode::layout,
         "need 1 bytes, but data_offsets span 0"},
        {"bytes for an empty tensor", with_shape("[0]", "[0,2]", 2), ErrorCode::layout,
         "need 0 bytes, but data_offsets span 2"},
        {"not a multiple of the element size", with_fields("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,5]", 5),
         ErrorCode::layout, "need 4 bytes"},
        {"first tensor not at 0", file_of("{" + entry("a", 1, 2) + "}", 2), ErrorCode::layout, "hole from byte 0"},
        {"a hole", file_of("{" + entry("a", 0, 1) + "," + entry("b", 2, 3) + "}", 3), ErrorCode::layout,
         "'b' begins at byte 2 of the data, which leaves a hole from byte 1"},
        {"an overlap", file_of("{" + entry("a", 0, 2) + "," + entry("b", 1, 3) + "}", 3), ErrorCode::layout,
         "'b' begins at byte 1 of the data and overlaps 'a', which ends at 2"},
        {"two tensors share their bytes", file_of("{" + entry("a", 0, 2) + "," + entry("b", 0, 2) + "}", 2),
         ErrorCode::layout, "overlaps"},
        {"one tensor inside another", file_of("{" + entry("a", 0, 4) + "," + entry("b", 1, 2) + "}", 4),
         ErrorCode::layout, "'b' begins at byte 1"},
        {"an empty tensor inside another", file_of("{" + entry("a", 0, 4) + "," + entry("b", 2, 2) + "}", 4),
         ErrorCode::layout, "'b' begins at byte 2"},
        {"4 bytes after the last tensor", file_of("{" + entry("a", 0, 2) + "}", 6), ErrorCode::layout,
         "4 trailing bytes follow the last tensor, which ends at byte 2"},
        {"data without tensors", file_of("{}", 1), ErrorCode::layout, "1 trailing bytes"},
    };
}

/// Checks each case as bytes, and that the message tells where it comes from.
void check(const std::vector<Malformed>& cases) {
    for (const Malformed& one : cases) {
        INFO(one.what);
        const auto error = caught([&] { (void)SafetensorsFile::parse(one.file); });
        REQUIRE(error.has_value());
        CHECK(static_cast<int>(error->code) == static_cast<int>(one.code));
        CHECK_THAT(error->text, moe_test::contains(one.fragment));
        CHECK_THAT(error->text, moe_test::contains("safetensors bytes: "));
        CHECK(error->text.size() < 400);
    }
}

}  // namespace

TEST_CASE("a malformed header length or text is a typed error", "[io][safetensors]") {
    check(malformed_lengths_and_texts());
}

TEST_CASE("a malformed structure is a typed error", "[io][safetensors]") { check(malformed_structures()); }

TEST_CASE("malformed numbers and layouts are typed errors", "[io][safetensors]") {
    check(malformed_numbers_and_layouts());
}

TEST_CASE("what is unusual but legal is read", "[io][safetensors]") {
    SECTION("no tensors") {
        const Bytes bytes = file_of("{}");
        const SafetensorsFile file = SafetensorsFile::parse(bytes);
        CHECK(file.tensors().empty());
    }
    SECTION("white space inside and after the header") {
        const Bytes bytes =
            file_of("{ \"a\" :\n{\"shape\": [ 2 ],\t\"data_offsets\":[0 , 2],\r\"dtype\":\"U8\"} }  \n ", 2);
        const SafetensorsFile file = SafetensorsFile::parse(bytes);
        CHECK(file.at("a").bytes.size() == 2);
    }
    SECTION("scalars, empty tensors, 64 dimensions") {
        const Bytes bytes =
            file_of("{" + entry("e", 0, 0) + ",\"s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}," +
                        "\"m\":{\"dtype\":\"U8\",\"shape\":[1" + repeated(",1", 63) + "],\"data_offsets\":[1,2]}," +
                        entry("f", 2, 2) + "}",
                    2);
        const SafetensorsFile file = SafetensorsFile::parse(bytes);
        CHECK(file.at("e").element_count() == 0);
        CHECK(file.at("f").element_count() == 0);
        CHECK(file.at("s").shape.empty());
        CHECK(file.at("s").element_count() == 1);
        CHECK(file.at("m").shape == std::vector<std::size_t>(64, 1));
    }
    SECTION("names and metadata with escapes, all of Unicode, a zero byte, an empty key") {
        const Bytes bytes = file_of(
            "{\"__metadata__\":{\"\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"},\"\\uD83D\\uDE00\\u00e9\\u0000\xE2\x82\xAC\":"
            "{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
        const SafetensorsFile file = SafetensorsFile::parse(bytes);
        CHECK(file.metadata().at("") == "\"\\/\b\f\n\r\t");
        CHECK(file.find(std::string_view("\xF0\x9F\x98\x80\xC3\xA9\0\xE2\x82\xAC", 10)) != nullptr);
    }
    SECTION("data in another order than the header") {
        const Bytes bytes = file_of("{" + entry("z", 2, 3) + "," + entry("a", 0, 2) + "}", 3);
        const SafetensorsFile file = SafetensorsFile::parse(bytes);
        CHECK(file.tensors()[0].name == "z");
        CHECK(file.at("z").bytes[0] == std::byte{2});
    }
    SECTION("65,536 metadata entries") {
        const Bytes bytes = file_of(many_metadata_entries(65536));
        CHECK(SafetensorsFile::parse(bytes).metadata().size() == 65536);
    }
}

TEST_CASE("lenient reading passes over trailing bytes and unknown fields only", "[io][safetensors]") {
    const auto lenient = [](const Bytes& bytes) { return SafetensorsFile::parse(bytes, moe::Strictness::lenient); };
    const std::string known = "\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]";

    const Bytes trailing = file_of("{" + entry("a", 0, 2) + "}", 6);
    const SafetensorsFile with_trailing = lenient(trailing);
    CHECK(with_trailing.at("a").bytes.size() == 2);
    const Bytes extended =
        with_fields("\"x\":{\"y\":[1,-2.5e+3,\"s\",true,false,null,{}],\"z\":[]},\"w\":0," + known + ",\"v\":\"\"", 2);
    const SafetensorsFile with_unknown = lenient(extended);
    CHECK(with_unknown.at("a").bytes.size() == 2);
    const Bytes nested = with_fields("\"x\":" + repeated("[", 31) + "0" + repeated("]", 31) + "," + known, 2);
    const SafetensorsFile with_nested = lenient(nested);
    CHECK(with_nested.tensors().size() == 1);

    const std::vector<Malformed> cases = {
        {"too deep", with_fields("\"x\":" + repeated("[", 32) + "0", 2), ErrorCode::header,
         "nest deeper than 32 levels"},
        {"far too deep", with_fields("\"x\":" + repeated("[", 1000000), 2), ErrorCode::header,
         "nest deeper than 32 levels"},
        {"an empty array too deep", with_fields("\"x\":" + repeated("[", 32) + repeated("]", 32), 2), ErrorCode::header,
         "nest deeper than 32 levels"},
        {"too deep in objects", with_fields("\"x\":" + repeated("{\"x\":", 1000), 2), ErrorCode::header, "nest deeper"},
        {"unknown field not JSON", with_fields("\"x\":[1 2]," + known, 2), ErrorCode::syntax, "'2' at byte"},
        {"a word that is none", with_fields("\"x\":nul," + known, 2), ErrorCode::syntax, "',' at byte 13"},
        {"a number beyond every double", with_fields("\"x\":[-1e999]," + known, 2), ErrorCode::overflow,
         "the number '-1e999'"},
        {"unknown field not UTF-8", with_fields("\"x\":{\"\xC3\":1}," + known, 2), ErrorCode::header, "'\"' at byte"},
        {"a known field twice, the unknown between", with_fields(known + ",\"x\":{\"y\":[]},\"shape\":[2]", 2),
         ErrorCode::duplicate, "the field shape stands twice"},
        {"a hole", file_of("{" + entry("a", 0, 1) + "," + entry("b", 2, 3) + "}", 3), ErrorCode::layout, "a hole"},
        {"an overlap", file_of("{" + entry("a", 0, 2) + "," + entry("b", 1, 3) + "}", 3), ErrorCode::layout,
         "overlaps"},
    };
    for (const Malformed& one : cases) {
        INFO(one.what);
        const auto error = caught([&] { (void)lenient(one.file); });
        REQUIRE(error.has_value());
        CHECK(static_cast<int>(error->code) == static_cast<int>(one.code));
        CHECK_THAT(error->text, moe_test::contains(one.fragment));
    }
}

}  // namespace moe_test::safetensors_malformed_test
