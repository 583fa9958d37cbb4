#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/support.hpp"
#include "moe/io/safetensors.hpp"
#include "moe/io/safetensors_writer.hpp"
#include "support/catch.hpp"

namespace moe_test::safetensors_truncation_test {

namespace {

using moe::ErrorCode;
using moe::SafetensorsFile;
using moe_test::Bytes;
using moe_test::caught;

/// Three tensors of different types, the last of them not empty, and metadata.
Bytes valid_file() {
    static const std::array<float, 6> matrix{1, 2, 3, 4, 5, 6};
    static const std::array<std::int64_t, 3> ids{-1, 0, 1};
    static const std::array<std::uint8_t, 5> bytes{9, 8, 7, 6, 5};
    const std::vector<moe::TensorToWrite> tensors{
        moe::tensor_to_write<float>("layer.0.weight", {2, 3}, matrix),
        moe::tensor_to_write<std::int64_t>("ids", {3}, ids),
        moe::tensor_to_write<std::uint8_t>("tail \"quoted\"", {5, 1}, bytes),
    };
    return moe::safetensors_bytes(tensors, {{"format", "test"}, {"note", "line\nbreak"}});
}

}  // namespace

TEST_CASE("every proper prefix of a valid file is reported as truncated", "[io][safetensors]") {
    const Bytes whole = valid_file();
    const SafetensorsFile complete = SafetensorsFile::parse(whole);
    REQUIRE(complete.tensors().size() == 3);
    for (std::size_t size = 0; size < whole.size(); ++size) {
        INFO("prefix of " << size << " of " << whole.size() << " bytes");
        // A copy of its own, so that a sanitiser sees a read past its end.
        const Bytes prefix(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        for (const moe::Strictness strictness : {moe::Strictness::strict, moe::Strictness::lenient}) {
            const auto error = caught([&] { (void)SafetensorsFile::parse(prefix, strictness); });
            REQUIRE(error.has_value());
            REQUIRE(static_cast<int>(error->code) == static_cast<int>(ErrorCode::truncated));
        }
    }
}

TEST_CASE("every prefix of a valid header, its length corrected, is refused", "[io][safetensors]") {
    const std::string header =
        R"({"__metadata__":{"k":"v\u0041\\"},"a":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}})";
    const Bytes whole = moe_test::file_of(header, 4);
    const SafetensorsFile complete = SafetensorsFile::parse(whole);
    REQUIRE(complete.tensors().size() == 1);
    for (std::size_t size = 0; size < header.size(); ++size) {
        INFO("header of " << size << " bytes");
        const Bytes file = moe_test::file_of(header.substr(0, size), 4);
        const auto error = caught([&] { (void)SafetensorsFile::parse(file); });
        REQUIRE(error.has_value());
        CHECK((error->code == ErrorCode::syntax || (size == 0 && error->code == ErrorCode::header)));
    }
}

TEST_CASE("every truncation of a file on disk is reported with its name", "[io][safetensors]") {
    const Bytes whole = valid_file();
    const moe_test::TemporaryDirectory directory;
    const std::string path = directory.file("cut.safetensors");
    for (std::size_t size = 0; size < whole.size(); size += 7) {
        moe_test::write_file(path, std::span(whole).first(size));
        for (const moe::ReadMode mode : {moe::ReadMode::map, moe::ReadMode::read}) {
            const auto error = caught([&] { (void)SafetensorsFile::open(path, mode); });
            REQUIRE(error.has_value());
            REQUIRE(static_cast<int>(error->code) == static_cast<int>(ErrorCode::truncated));
            REQUIRE_THAT(error->text, moe_test::contains("cut.safetensors"));
        }
    }
}

TEST_CASE("a file with any one byte changed is read within its bounds or refused", "[io][safetensors]") {
    const Bytes whole = valid_file();
    std::size_t refused = 0;
    for (std::size_t at = 0; at < whole.size(); ++at) {
        for (const unsigned flip : {0x01U, 0x02U, 0x10U, 0x20U, 0x80U, 0xFFU}) {
            Bytes changed = whole;
            changed[at] ^= static_cast<std::byte>(flip);
            const auto error = caught([&] {
                const SafetensorsFile file = SafetensorsFile::parse(changed, moe::Strictness::lenient);
                for (const moe::TensorView& tensor : file.tensors()) {
                    const std::byte* const begin = changed.data();
                    const std::byte* const end = begin + changed.size();
                    moe::ensure(tensor.bytes.data() >= begin && tensor.bytes.data() + tensor.bytes.size() <= end,
                                ErrorCode::capacity, "a tensor lies outside of the file");
                }
            });
            refused += error.has_value() ? 1U : 0U;
            const bool inside = !error || error->code != ErrorCode::capacity;
            REQUIRE(inside);
        }
    }
    CHECK(refused > whole.size());  // most of the header matters
}

}  // namespace moe_test::safetensors_truncation_test
