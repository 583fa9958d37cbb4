#include <cstdint>
#include <string>
#include <vector>

#include "io/gguf_support.hpp"
#include "moe/io/gguf_file.hpp"
#include "support/catch.hpp"

namespace moe_test::gguf_malformed_test {

namespace {

using moe::ErrorCode;
using moe::GgufFile;
using moe_test::Bytes;
using namespace moe_test::raw_gguf;

struct Malformed {
    std::string what;
    Bytes file;
    ErrorCode code;
    std::string fragment;  // of the message
};

constexpr std::uint64_t top = ~std::uint64_t{0};
constexpr std::uint64_t half = std::uint64_t{1} << 63U;

/// A file whose only entry is this.
Bytes with_entry(const std::string& one) { return file({one}, {}); }

/// A file with one entry named k, whose type and value are these bytes, then nothing.
Bytes with_value(std::uint32_t type, const std::string& value) {
    return bytes_of(head(0, 1) + text("k") + u32(type) + value);
}

/// A file whose only tensor is this.
Bytes with_tensor(const std::string& one, std::size_t data_bytes = 32) { return file({}, {one}, data(data_bytes)); }

/// A file with these two tensors.
Bytes with_tensors(const std::string& a, const std::string& b, std::size_t data_bytes) {
    return file({}, {a, b}, data(data_bytes));
}

/// A file with this alignment and one tensor of 8 floats.
Bytes with_alignment(const std::string& entry_of_alignment, std::uint64_t offset = 0) {
    return file({entry_of_alignment}, {tensor("a", {8}, 0, offset)}, data(32));
}

std::vector<Malformed> malformed_heads() {
    const std::string rest(200, '\0');
    return {
        {"empty file", {}, ErrorCode::truncated, "the magic, of 4 bytes from byte 0 on, is cut off after 0"},
        {"3 bytes", bytes_of("GGU"), ErrorCode::truncated, "the magic, of 4 bytes from byte 0 on, is cut off after 3"},
        {"magic of GGML", bytes_of("ggml" + rest), ErrorCode::header, "it begins with 'ggml', not with 'GGUF'"},
        {"magic in big-endian order", bytes_of("FUGG" + rest), ErrorCode::header, "it begins with 'FUGG'"},
        {"magic in small letters", bytes_of("gguf" + rest), ErrorCode::header, "it begins with 'gguf'"},
        {"zeros", bytes_of(rest), ErrorCode::header, "'\\x00\\x00\\x00\\x00'"},
        {"a safetensors file", moe_test::file_of("{}"), ErrorCode::header, "'\\x02\\x00\\x00\\x00'"},
        {"a zip file", bytes_of("PK\x03\x04" + rest), ErrorCode::header, "'PK\\x03\\x04'"},
        {"no version", bytes_of("GGUF"), ErrorCode::truncated, "the version, of 4 bytes from byte 4"},
        {"version 0", bytes_of(head(0, 0, 0)), ErrorCode::format, "version 0; 2 and 3 are read"},
        {"version 1", bytes_of(head(0, 0, 1)), ErrorCode::format, "version 1, whose counts are of 32 bits"},
        {"version 4", bytes_of(head(0, 0, 4)), ErrorCode::format, "version 4; 2 and 3"},
        {"largest version", bytes_of(head(0, 0, 0xFFFFFFFFU)), ErrorCode::format, "version 4294967295"},
        {"version 3 in big-endian order", bytes_of(head(0, 0, 0x03000000U)), ErrorCode::format, "big-endian"},
        {"no counts", bytes_of("GGUF" + u32(3)), ErrorCode::truncated, "the number of tensors"},
        {"one count", bytes_of("GGUF" + u32(3) + u64(0)), ErrorCode::truncated, "the number of metadata entries"},
        {"more tensors than fit", bytes_of(head(9, 0) + rest), ErrorCode::truncated,
         "9 tensors of at least 25 bytes each are announced, but 200 bytes follow"},
        {"2^64 - 1 tensors", bytes_of(head(top, 0) + rest), ErrorCode::truncated, "18446744073709551615 tensors"},
        {"2^63 tensors", bytes_of(head(half, 0) + rest), ErrorCode::truncated, "9223372036854775808 tensors"},
        {"tensors x 25 wraps to 9", bytes_of(head(top / 25 + 1, 0) + rest), ErrorCode::truncated,
         "tensors of at least"},
        {"more entries than fit", bytes_of(head(0, 15) + rest), ErrorCode::truncated,
         "15 metadata entries of at least 14 bytes each are announced, but 200"},
        {"2^64 - 1 entries", bytes_of(head(0, top) + rest), ErrorCode::truncated,
         "18446744073709551615 metadata entries"},
        {"2^63 entries", bytes_of(head(0, half) + rest), ErrorCode::truncated, "9223372036854775808 metadata entries"},
        {"entries that are not there", bytes_of(head(0, 1) + std::string(13, 'x')), ErrorCode::truncated,
         "1 metadata entries of at least 14 bytes each are announced, but 13"},
    };
}

std::vector<Malformed> malformed_metadata() {
    const std::string long_key(5000, 'k');
    return {
        {"empty key", with_entry(u32_entry("", 1) + "pad"), ErrorCode::header,
         "the name of a metadata at byte 24 is empty"},
        {"zero byte in a key", with_entry(u32_entry(std::string("a\0b", 3), 1)), ErrorCode::header,
         "metadata 'a\\x00b': the name has a zero byte in it"},
        {"key longer than the file", bytes_of(head(0, 1) + u64(1000) + std::string(50, 'k')), ErrorCode::truncated,
         "a name, of 1000 bytes from byte 32 on, is cut off after 50"},
        {"key of 2^64 - 1 bytes", bytes_of(head(0, 1) + u64(top) + std::string(50, 'k')), ErrorCode::truncated,
         "a name, of 18446744073709551615 bytes"},
        {"key whose end wraps", bytes_of(head(0, 1) + u64(top - 31) + std::string(50, 'k')), ErrorCode::truncated,
         "a name, of 18446744073709551584 bytes"},
        {"key of 2^63 bytes", bytes_of(head(0, 1) + u64(half) + std::string(50, 'k')), ErrorCode::truncated,
         "a name, of 9223372036854775808 bytes"},
        {"a key twice", file({u32_entry("k", 1), u32_entry("l", 1), u32_entry("k", 1)}, {}), ErrorCode::duplicate,
         "two metadata entries are named 'k'"},
        {"a key twice, of different types", file({u32_entry("k", 1), entry("k", 8, text(""))}, {}),
         ErrorCode::duplicate, "two metadata entries are named 'k'"},
        {"a very long key twice", file({u32_entry(long_key, 1), u32_entry(long_key, 1)}, {}), ErrorCode::duplicate,
         "named '" + std::string(80, 'k') + "'..."},
        {"type 13", with_value(13, u64(0)), ErrorCode::unknown_type,
         "metadata 'k': the type of its value is 13, which is none"},
        {"largest type", with_value(0xFFFFFFFFU, u64(0)), ErrorCode::unknown_type, "its value is 4294967295"},
        {"value cut off", with_value(10, u32(0)), ErrorCode::truncated,
         "'k': its value, of 8 bytes from byte 37 on, is cut off after 4"},
        {"type cut off", bytes_of(head(0, 1) + text("kkkk") + std::string(2, '\0')), ErrorCode::truncated,
         "'kkkk': a type, of 4 bytes"},
        {"BOOL of 2", with_value(7, "\x02"), ErrorCode::range, "'k': a BOOL is 2, neither 0 nor 1"},
        {"BOOL of 255", with_value(7, "\xFF"), ErrorCode::range, "'k': a BOOL is 255"},
        {"string longer than the file", with_value(8, u64(9) + "abc"), ErrorCode::truncated,
         "'k': its string, of 9 bytes from byte 45 on, is cut off after 3"},
        {"string of 2^64 - 1 bytes", with_value(8, u64(top) + "abc"), ErrorCode::truncated,
         "its string, of 18446744073709551615 bytes"},
        {"length of a string cut off", with_value(8, u32(1)), ErrorCode::truncated, "'k': the length of a string"},
        {"array of type 13", with_value(9, u32(13) + u64(1) + u64(0)), ErrorCode::unknown_type,
         "'k': the type of the elements of its array is 13"},
        {"array of arrays", with_value(9, u32(9) + u64(1) + u32(4) + u64(1) + u32(0)), ErrorCode::unknown_type,
         "'k': it is an array of arrays"},
        {"array without length", with_value(9, u32(4) + u32(1)), ErrorCode::truncated, "the length of an array"},
        {"array longer than the file", with_value(9, u32(4) + u64(3) + u64(0)), ErrorCode::truncated,
         "'k': 3 UINT32 of at least 4 bytes each are announced, but 8 bytes follow"},
        {"array of 2^64 - 1", with_value(9, u32(0) + u64(top) + u64(0)), ErrorCode::truncated,
         "18446744073709551615 UINT8"},
        {"array whose size wraps to 0", with_value(9, u32(10) + u64(std::uint64_t{1} << 61U) + u64(0)),
         ErrorCode::truncated, "2305843009213693952 UINT64"},
        {"array whose size wraps to 8", with_value(9, u32(10) + u64((std::uint64_t{1} << 61U) + 1) + u64(0)),
         ErrorCode::truncated, "2305843009213693953 UINT64"},
        {"array of strings, more than fit", with_value(9, u32(8) + u64(3) + u64(0) + u64(0)), ErrorCode::truncated,
         "3 STRING of at least 8 bytes each"},
        {"array of strings, the second too long", with_value(9, u32(8) + u64(2) + text("a") + u64(100) + "b"),
         ErrorCode::truncated, "'k': a string of its array, of 100 bytes"},
        {"array of strings, the first of 2^64 - 1", with_value(9, u32(8) + u64(2) + u64(top) + text("a")),
         ErrorCode::truncated, "'k': a string of its array, of 18446744073709551615 bytes"},
        {"array of BOOL with a 3", with_value(9, u32(7) + u64(3) + std::string("\0\1\3", 3)), ErrorCode::range,
         "'k': a BOOL is 3"},
        {"alignment 0", with_alignment(u32_entry("general.alignment", 0)), ErrorCode::range,
         "general.alignment is 0, not a power of two"},
        {"alignment 48", with_alignment(u32_entry("general.alignment", 48)), ErrorCode::range, "is 48, not a power"},
        {"alignment 2^31", with_alignment(u32_entry("general.alignment", 0x80000000U)), ErrorCode::range,
         "is 2147483648, not a power of two up to 1073741824"},
        {"alignment 2^32 - 1", with_alignment(u32_entry("general.alignment", 0xFFFFFFFFU)), ErrorCode::range,
         "is 4294967295"},
        {"alignment 2^30 in a small file", with_alignment(u32_entry("general.alignment", 1U << 30U)),
         ErrorCode::truncated, "the data would begin at byte 1073741824"},
        {"alignment a string", with_alignment(entry("general.alignment", 8, text("32"))), ErrorCode::header,
         "general.alignment is STRING, not UINT32"},
        {"alignment of 64 bits", with_alignment(entry("general.alignment", 10, u64(32))), ErrorCode::header,
         "general.alignment is UINT64, not UINT32"},
        {"alignment negative", with_alignment(entry("general.alignment", 5, number(-32))), ErrorCode::header,
         "general.alignment is INT32"},
        {"alignment an array", with_alignment(array_entry("general.alignment", 4, 1, u32(32))), ErrorCode::header,
         "general.alignment is an array of UINT32"},
    };
}

std::vector<Malformed> malformed_tensors() {
    const std::uint64_t large = std::uint64_t{1} << 32U;
    return {
        {"empty name", with_tensor(tensor("", {8}, 0, 0) + "pad"), ErrorCode::header,
         "the name of a tensor at byte 24"},
        {"zero byte in a name", with_tensor(tensor(std::string("\0", 1), {8}, 0, 0)), ErrorCode::header,
         "tensor '\\x00': the name has a zero byte"},
        {"name longer than the file", bytes_of(head(1, 0) + u64(100) + std::string(40, 'a')), ErrorCode::truncated,
         "a name, of 100 bytes from byte 32 on, is cut off after 40"},
        {"name with control characters", with_tensor(tensor("\x1b[2J", {8}, 4, 0)), ErrorCode::unknown_type,
         "tensor '\\x1B[2J'"},
        {"a name twice", with_tensors(tensor("a", {8}, 0, 0), tensor("a", {8}, 0, 32), 64), ErrorCode::duplicate,
         "two tensors are named 'a'"},
        {"5 dimensions", with_tensor(tensor("a", {1, 1, 1, 1, 8}, 0, 0)), ErrorCode::range,
         "'a': it has 5 dimensions, more than 4"},
        {"2^32 - 1 dimensions", with_tensor(text("a") + u32(0xFFFFFFFFU) + data(64)), ErrorCode::range,
         "it has 4294967295 dimensions"},
        {"dimensions cut off", bytes_of(head(1, 0) + text("aaaa") + u32(4) + u64(8) + u32(8)), ErrorCode::truncated,
         "'aaaa': a dimension, of 8 bytes"},
        {"negative dimension", with_tensor(tensor("a", {top}, 0, 0)), ErrorCode::overflow,
         "'a': a dimension is 18446744073709551615, more than 9223372036854775807"},
        {"dimension of 2^63", with_tensor(tensor("a", {8, half}, 0, 0)), ErrorCode::overflow,
         "a dimension is 9223372036854775808"},
        {"product that wraps to 0", with_tensor(tensor("a", {large, large}, 24, 0)), ErrorCode::overflow,
         "'a': its size, 4294967296 x 4294967296 or more, overflows"},
        {"product that wraps to 32", with_tensor(tensor("a", {32, (half >> 4U) + 1, 2}, 24, 0)), ErrorCode::overflow,
         "or more, overflows"},
        {"bytes that wrap", with_tensor(tensor("a", {half >> 1U}, 0, 0)), ErrorCode::overflow,
         "its size, 4611686018427387904 x 4 or more, overflows"},
        {"bytes of blocks that wrap", with_tensor(tensor("a", {half - 256, 2}, 15, 0)), ErrorCode::overflow,
         "or more, overflows"},
        {"product beside a zero", with_tensor(tensor("a", {0, large, large}, 0, 0), 0), ErrorCode::overflow,
         "its size, 4294967296 x 4294967296"},
        {"rows of no whole blocks", with_tensor(tensor("a", {33, 32}, 8, 0)), ErrorCode::layout,
         "'a': rows of 33 values are no whole blocks of Q8_0, which has 32"},
        {"rows of half a block", with_tensor(tensor("a", {128, 2}, 12, 0)), ErrorCode::layout,
         "rows of 128 values are no whole blocks of Q4_K, which has 256"},
        {"scalar of a block type", with_tensor(tensor("a", {}, 2, 0)), ErrorCode::layout, "rows of 1 values"},
        {"type 4, which ggml has removed", with_tensor(tensor("a", {32}, 4, 0)), ErrorCode::unknown_type,
         "'a': its type has the number 4, which is none that is known here"},
        {"type 43", with_tensor(tensor("a", {32}, 43, 0)), ErrorCode::unknown_type, "the number 43"},
        {"type of ik_llama.cpp", with_tensor(tensor("a", {256}, 139, 0)), ErrorCode::unknown_type,
         "the number 139, which is none of ggml (ik_llama.cpp has types of its own)"},
        {"largest type", with_tensor(tensor("a", {32}, 0xFFFFFFFFU, 0)), ErrorCode::unknown_type, "4294967295"},
        {"description cut off", bytes_of(head(1, 0) + text("a") + u32(1) + u64(8) + u32(0)), ErrorCode::truncated,
         "'a': the offset of its data, of 8 bytes"},
        {"offset 16", with_tensor(tensor("a", {8}, 0, 16), 64), ErrorCode::layout,
         "'a': its data begin at byte 16 of the data, no multiple of the alignment 32"},
        {"offset 32 with alignment 64", with_alignment(u32_entry("general.alignment", 64), 32), ErrorCode::layout,
         "no multiple of the alignment 64"},
        {"offset behind the file", with_tensor(tensor("a", {8}, 0, 320)), ErrorCode::truncated,
         "tensor 'a' has 32 bytes from byte 320 of the data on, but only 32 are there"},
        {"offset + size wraps", with_tensor(tensor("a", {8}, 0, top - 31)), ErrorCode::truncated,
         "from byte 18446744073709551584 of the data on"},
        {"larger than the file", with_tensor(tensor("a", {16}, 0, 0)), ErrorCode::truncated,
         "has 64 bytes from byte 0 of the data on, but only 32"},
        {"size that no file has", with_tensor(tensor("a", {half >> 3U}, 0, 0)), ErrorCode::truncated,
         "has 4611686018427387904 bytes"},
        {"data missing", with_tensor(tensor("a", {8}, 0, 0), 0), ErrorCode::truncated, "but only 0 are there"},
        {"hole before the first", with_tensor(tensor("a", {8}, 0, 32), 64), ErrorCode::layout,
         "begins at byte 32 of the data, which leaves a hole from byte 0"},
        {"hole between", with_tensors(tensor("a", {8}, 0, 0), tensor("b", {8}, 0, 64), 96), ErrorCode::layout,
         "tensor 'b' begins at byte 64 of the data, which leaves a hole from byte 32"},
        {"overlap", with_tensors(tensor("a", {16}, 0, 0), tensor("b", {8}, 0, 32), 64), ErrorCode::layout,
         "tensor 'b' begins at byte 32 of the data and overlaps 'a', which ends at 64"},
        {"two tensors in one place", with_tensors(tensor("a", {8}, 0, 0), tensor("b", {8}, 0, 0), 32),
         ErrorCode::layout, "overlaps"},
        {"no padding at the end", with_tensor(tensor("a", {3}, 0, 0), 12), ErrorCode::truncated,
         "the data end at byte 12, within the padding of the last tensor, which ends at 32"},
        {"a byte too many", with_tensor(tensor("a", {8}, 0, 0), 33), ErrorCode::layout, "1 trailing bytes"},
        {"a second file behind the first", with_tensor(tensor("a", {8}, 0, 0), 32 + 1024), ErrorCode::layout,
         "1024 trailing bytes follow the last tensor, which ends at byte 32 of the data"},
        {"data but no tensor", file({}, {}, data(32)), ErrorCode::layout, "32 trailing bytes"},
        {"padding before no data cut off", bytes_of(head(0, 1) + u32_entry("k", 1) + std::string(1, '\0')),
         ErrorCode::truncated, "it ends at byte 42, but the data would begin at byte 64"},
        {"fewer entries than there are",
         bytes_of(head(1, 1) + u32_entry("k", 1) + entry("l", 8, text("v")) + tensor("a", {8}, 0, 0) + data(64)),
         ErrorCode::range, "tensor 'l': it has 8 dimensions"},
    };
}

}  // namespace

TEST_CASE("every malformed GGUF file is refused with its own reason", "[io][gguf]") {
    std::vector<Malformed> cases = malformed_heads();
    for (auto more : {malformed_metadata(), malformed_tensors()}) {
        cases.insert(cases.end(), more.begin(), more.end());
    }
    REQUIRE(cases.size() >= 100);
    for (const Malformed& one : cases) {
        INFO(one.what);
        const auto error = moe_test::caught([&] { (void)GgufFile::parse(one.file); });
        REQUIRE(error.has_value());
        CHECK(static_cast<int>(error->code) == static_cast<int>(one.code));
        CHECK_THAT(error->text, moe_test::contains(one.fragment));
        CHECK_THAT(error->text, moe_test::contains("GGUF bytes: "));
        CHECK(error->text.size() < 400);
    }
}

}  // namespace moe_test::gguf_malformed_test
