#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "io/support.hpp"
#include "moe/io/peft.hpp"
#include "support/catch.hpp"

namespace moe_test::peft_malformed_test {

namespace {

using moe::ErrorCode;
using moe::PeftSide;
using moe::PeftTarget;
using moe_test::Bytes;
using moe_test::caught;

constexpr std::size_t most = ~std::size_t{0};
constexpr PeftTarget experts{2, 3, 4, PeftSide::inputs};  // lora_A has 4 columns, lora_B 3 rows

/// A tensor of F32 behind `offset` bytes of others, as a header describes it.
struct Described {
    std::string name;
    std::vector<std::size_t> shape;
    std::string dtype = "F32";
    std::size_t bytes_each = 4;
};

Bytes file_with(const std::vector<Described>& tensors) {
    std::string header = "{";
    std::size_t end = 0;
    for (const Described& one : tensors) {
        const std::size_t begin = end;
        std::size_t size = one.bytes_each;
        header.append(header.size() > 1 ? "," : "").append("\"").append(one.name).append("\":{\"dtype\":\"");
        header.append(one.dtype).append("\",\"shape\":[");
        for (const std::size_t extent : one.shape) {
            header.append(header.back() == '[' ? "" : ",").append(std::to_string(extent));
            size *= extent;
        }
        end += size;
        header.append("],\"data_offsets\":[").append(std::to_string(begin)).append(",");
        header.append(std::to_string(end)).append("]}");
    }
    return moe_test::file_of(header.append("}"), end);
}

Described lora_a(std::vector<std::size_t> shape) { return {"p.lora_A.weight", std::move(shape)}; }
Described lora_b(std::vector<std::size_t> shape) { return {"p.lora_B.weight", std::move(shape)}; }
Described as_type(Described tensor, const char* dtype, std::size_t bytes_each) {
    tensor.dtype = dtype;
    tensor.bytes_each = bytes_each;
    return tensor;
}
Bytes pair_of(std::vector<std::size_t> a, std::vector<std::size_t> b) {
    return file_with({lora_a(std::move(a)), lora_b(std::move(b))});
}
Bytes valid_file() { return pair_of({2, 4}, {3, 2}); }

struct Malformed {
    std::string what;
    Bytes file;
    PeftTarget target;
    ErrorCode code;
    std::string fragment;  // of the message
};

std::vector<Malformed> malformed_adapters() {
    const Described a = lora_a({2, 4});
    const Described b = lora_b({3, 2});
    return {
        {"no tensors", moe_test::file_of("{}"), experts, ErrorCode::not_found,
         "none of its 0 tensors is named 'p.lora_A"},
        {"no lora_A", file_with({b}), experts, ErrorCode::not_found, "is named 'p.lora_A.weight'"},
        {"no lora_B", file_with({a}), experts, ErrorCode::not_found, "is named 'p.lora_B.weight'"},
        {"lora_A of another module", file_with({{"q.lora_A.weight", {2, 4}}, b}), experts, ErrorCode::not_found,
         "'p.lora_A.weight'"},
        {"lora_A a scalar", pair_of({}, {3, 2}), experts, ErrorCode::shape, "tensors of 0 and 2 dimensions"},
        {"lora_A a vector", pair_of({8}, {3, 2}), experts, ErrorCode::shape, "tensors of 1 and 2 dimensions"},
        {"lora_B of three dimensions", pair_of({2, 4}, {1, 3, 2}), experts, ErrorCode::shape, "of 2 and 3 dimensions"},
        {"rank 0", pair_of({0, 4}, {3, 0}), experts, ErrorCode::shape, "'p.lora_A.weight' is 0 x 4"},
        {"ranks that do not divide", pair_of({3, 4}, {3, 3}), experts, ErrorCode::shape,
         "is 3 x 4, it must be a multiple of 2 x 4"},
        {"lora_A too narrow", pair_of({2, 3}, {3, 2}), experts, ErrorCode::shape, "is 2 x 3, it must be"},
        {"lora_A too wide", pair_of({2, 5}, {3, 2}), experts, ErrorCode::shape, "is 2 x 5, it must be"},
        {"lora_A without columns", pair_of({2, 0}, {3, 2}), experts, ErrorCode::shape, "is 2 x 0, it must be"},
        {"lora_A turned over", pair_of({4, 2}, {3, 4}), experts, ErrorCode::shape, "is 4 x 2, it must be"},
        {"lora_B of fewer outputs", pair_of({2, 4}, {2, 2}), experts, ErrorCode::shape, "is 2 x 2, it must be 3 x 2"},
        {"lora_B of more outputs", pair_of({2, 4}, {4, 2}), experts, ErrorCode::shape, "is 4 x 2, it must be 3 x 2"},
        {"lora_B turned over", pair_of({4, 4}, {4, 3}), experts, ErrorCode::shape, "is 4 x 3, it must be 3 x 4"},
        {"lora_B of another rank", pair_of({2, 4}, {3, 4}), experts, ErrorCode::shape, "is 3 x 4, it must be 3 x 2"},
        {"lora_B without ranks", pair_of({2, 4}, {3, 0}), experts, ErrorCode::shape, "is 3 x 0, it must be 3 x 2"},
        {"lora_A huge and without bytes", pair_of({most / 8 - 1, 0}, {3, 2}), experts, ErrorCode::shape,
         "x 0, it must"},
        {"of the other side",
         valid_file(),
         {2, 3, 4, PeftSide::outputs},
         ErrorCode::shape,
         "is 2 x 4, it must be a multiple of 2 x 3"},
        {"0 experts", valid_file(), {0, 3, 4, PeftSide::inputs}, ErrorCode::shape, "0 experts of 3 x 4"},
        {"0 outputs", valid_file(), {2, 0, 4, PeftSide::inputs}, ErrorCode::shape, "2 experts of 0 x 4"},
        {"0 inputs", valid_file(), {2, 3, 0, PeftSide::inputs}, ErrorCode::shape, "2 experts of 3 x 0"},
        {"2^64 - 1 experts",
         valid_file(),
         {most, 3, 4, PeftSide::inputs},
         ErrorCode::shape,
         "a multiple of 18446744073709551615 x 4"},
        {"2^64 - 1 outputs",
         valid_file(),
         {2, most, 4, PeftSide::inputs},
         ErrorCode::shape,
         "is 3 x 2, it must be 18446744073709551615 x 2"},
        {"2^64 - 1 inputs",
         valid_file(),
         {2, 3, most, PeftSide::inputs},
         ErrorCode::shape,
         "a multiple of 2 x 18446744073709551615"},
        {"lora_A of integers", file_with({as_type(a, "I32", 4), b}), experts, ErrorCode::unknown_type,
         "'p.lora_A.weight' holds I32, not F32, F64, F16 or BF16"},
        {"lora_A of bytes", file_with({as_type(a, "U8", 1), b}), experts, ErrorCode::unknown_type, "holds U8"},
        {"lora_B of booleans", file_with({a, as_type(b, "BOOL", 1)}), experts, ErrorCode::unknown_type,
         "'p.lora_B.weight' holds BOOL"},
        {"lora_B of 8-bit floats", file_with({a, as_type(b, "F8_E4M3", 1)}), experts, ErrorCode::unknown_type,
         "'p.lora_B.weight' holds F8_E4M3"},
    };
}

}  // namespace

TEST_CASE("every malformed adapter is refused with its own reason", "[peft]") {
    const Bytes valid = valid_file();
    const moe::SafetensorsFile readable = moe::SafetensorsFile::parse(valid);
    REQUIRE(moe::read_peft(readable, "p", experts).rank == 1);
    for (const Malformed& one : malformed_adapters()) {
        INFO(one.what);
        const moe::SafetensorsFile file = moe::SafetensorsFile::parse(one.file);
        const auto error = caught([&] { (void)moe::read_peft(file, "p", one.target); });
        REQUIRE(error.has_value());
        INFO(error->text);
        CHECK(static_cast<int>(error->code) == static_cast<int>(one.code));
        CHECK_THAT(error->text, moe_test::contains(one.fragment));
        CHECK(error->text.size() < 400);
    }
}

TEST_CASE("every proper prefix of an adapter is reported as truncated", "[peft]") {
    const Bytes whole = valid_file();
    for (std::size_t size = 0; size < whole.size(); ++size) {
        const Bytes prefix(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        const auto error = caught([&] {
            const moe::SafetensorsFile file = moe::SafetensorsFile::parse(prefix);
            (void)moe::read_peft(file, "p", experts);
        });
        REQUIRE(error.has_value());
        REQUIRE(static_cast<int>(error->code) == static_cast<int>(ErrorCode::truncated));
    }
}

}  // namespace moe_test::peft_malformed_test
