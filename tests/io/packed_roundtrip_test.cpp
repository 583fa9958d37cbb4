#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "io/packed_support.hpp"
#include "layer/batch_runner.hpp"
#include "moe/gating/strategies/token_choice.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/computes.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"

namespace moe_test::packed_roundtrip_test {

namespace {

using moe::Compute;
using moe::ErrorCode;
using moe::PackedFile;
using moe::ReadMode;
using moe::Verify;
using moe_test::AlignedBytes;
using moe_test::Bytes;
using moe_test::contains;
using moe_test::error_of;
using moe_test::SourceOf;
using moe_test::TemporaryDirectory;

/// The output of a layer around `experts`, on 23 tokens.
template <class Case, class Experts>
std::vector<typename Experts::value_type> output_of(const Case& layer_case, Experts experts) {
    using T = typename Experts::value_type;
    const moe::MoELayer layer{layer_case.router(moe::TokenChoice<>{.top_k = 2}), std::move(experts),
                              layer_case.shared(), layer_case.options()};
    moe_test::Draw draw(77);
    const moe_test::Batch<T> batch(draw, 23, layer.d_model());
    moe::Workspace workspace;
    return moe_test::run_tokens(layer, batch, moe_test::first_tokens(23), false, workspace, moe::SerialExecutor{});
}

template <class F>
void check_round_trip(moe::FormKind kind, Compute compute) {
    INFO(moe::format_name<F>() << ", form " << static_cast<int>(kind) << ", compute " << static_cast<int>(compute));
    using Packed = moe::PackedExperts<F, moe::AnyForm>;
    moe_test::LayerShape shape = moe_test::odd_shape(kind);
    shape.form.limit = 1.0;
    shape.shared_widths = {19};
    const moe_test::LayerCase<SourceOf<F>> layer_case(shape, 11);
    const TemporaryDirectory directory;
    const std::string path = directory.file("experts.moe");
    std::vector<typename Packed::value_type> expected;
    Bytes data;
    {
        Packed packed(layer_case.bank(), moe::SerialExecutor{}, compute);
        moe::write_packed(path, packed, moe_test::ThreadExecutor(2));
        data.assign(packed.data().begin(), packed.data().end());
        expected = output_of(layer_case, std::move(packed));
    }
    for (const ReadMode mode : {ReadMode::map, ReadMode::read}) {
        for (const Verify verify : {Verify::all, Verify::header}) {
            PackedFile opened = PackedFile::open(path, verify, moe_test::ThreadExecutor(3), mode);
            const PackedFile file = std::move(opened);
            CHECK(file.format() == moe::stored_format<F>);
            CHECK(file.n_experts() == shape.n_experts);
            CHECK(file.d_model() == shape.d_model);
            CHECK(file.d_ff() == shape.d_ff);
            CHECK(file.gated() == shape.form.gated());
            CHECK(std::equal(data.begin(), data.end(), file.data().begin(), file.data().end()));
            Packed experts = file.experts<F>(shape.form, compute);
            CHECK(experts.data().data() == file.data().data());  // not a copy
            CHECK(moe_test::same_bits(output_of(layer_case, std::move(experts)), expected));
        }
    }
}

template <class F>
void check_round_trips() {
    for (const moe::FormKind kind : {moe::FormKind::swiglu, moe::FormKind::gelu, moe::FormKind::clamped_after}) {
        for (const Compute compute : moe_test::computes<F>()) {
            check_round_trip<F>(kind, compute);
        }
    }
}

}  // namespace

TEST_CASE("experts from a file give a layer the same bits as those that were written", "[io][packed]") {
    check_round_trips<float>();
    check_round_trips<double>();
    check_round_trips<moe::bfloat16>();
    check_round_trips<moe::float16>();
    check_round_trips<moe::Int8>();
    check_round_trips<moe::Int4>();
}

TEST_CASE("a form known when compiling goes into a file and out of it", "[io][packed]") {
    moe_test::LayerShape shape = moe_test::odd_shape();
    shape.biases = false;
    const moe_test::LayerCase<float> layer_case(shape, 3);
    const moe::ExpertBank<float, moe::Gated<moe::Silu>> bank({}, layer_case.bank().weights());
    const TemporaryDirectory directory;
    moe::PackedExperts<moe::bfloat16, moe::Gated<moe::Silu>> packed(bank);
    moe::write_packed(directory.file("experts.moe"), packed);
    const PackedFile file = PackedFile::open(directory.file("experts.moe"));
    const auto expected = output_of(layer_case, std::move(packed));
    CHECK(moe_test::same_bits(output_of(layer_case, file.experts<moe::bfloat16>(moe::Gated<moe::Silu>{})), expected));
    CHECK(moe_test::same_bits(output_of(layer_case, file.experts<moe::bfloat16>(moe::AnyForm{})), expected));
}

TEST_CASE("packing leaves no byte undefined: equal experts give equal files", "[io][packed]") {
    const moe_test::LayerCase<float> layer_case(moe_test::odd_shape(), 4);
    const auto bank = layer_case.bank();
    const auto check = [&]<class F>() {
        using Packed = moe::PackedExperts<F, moe::AnyForm>;
        std::vector<Bytes> results;
        for (const std::byte before : {std::byte{0x00}, std::byte{0xA5}}) {
            const AlignedBytes memory(Bytes(Packed::bytes_for(bank), before));
            const Packed packed(bank, memory.span());
            results.emplace_back(packed.data().begin(), packed.data().end());
        }
        CHECK(results[0] == results[1]);
    };
    check.operator()<float>();
    check.operator()<moe::bfloat16>();
    check.operator()<moe::float16>();
    check.operator()<moe::Int8>();
    check.operator()<moe::Int4>();
}

TEST_CASE("the same experts give the same file on every little-endian processor", "[io][packed]") {
    if constexpr (std::endian::native != std::endian::little) {
        SUCCEED("the data have the byte order of the processor");
        return;
    }
    const auto checksum_of = []<class F>() {
        const Bytes file = moe_test::packed_file_bytes<F>(moe_test::odd_shape());
        return moe::detail::checksum(file, moe::SerialExecutor{});
    };
    CHECK(checksum_of.operator()<float>() == 0x2A044F4C26409571ULL);
    CHECK(checksum_of.operator()<double>() == 0x294D9A1AAC40D0A0ULL);
    CHECK(checksum_of.operator()<moe::bfloat16>() == 0x009603FE9F78FDF3ULL);
    CHECK(checksum_of.operator()<moe::float16>() == 0x695398812F4C4565ULL);
    CHECK(checksum_of.operator()<moe::Int4>() == 0x8681B651D7A796BCULL);
    CHECK(checksum_of.operator()<moe::Int8>() == 0x35EAA8A5FCEFA919ULL);
}

TEST_CASE("codes of 4 bits do not depend on whether the processor fuses a product with a sum", "[io][packed]") {
    // x / scale lies so close below a half that its product, rounded by itself, reaches it.
    std::array<float, moe::quantization_group> x{0x1.2022eep+0F, 0x1.8c3008p-1F, 0x1.682bacp-2F, 0x1.b0346ap-3F,
                                                 -0x1.682ba4p-2F};
    const moe::QuantizedGroup group = moe::quantize_group(moe::Int4{}, x);
    CHECK(group.codes[0] == 0);
    CHECK(group.codes[1] == 2);
    CHECK(group.codes[2] == 5);
    CHECK(group.codes[3] == 6);
    CHECK(group.codes[4] == 10);
    CHECK(group.codes[5] == 8);
}

TEST_CASE("data begin at a page and are aligned however the file is read", "[io][packed]") {
    const Bytes bytes = moe_test::packed_file_bytes<float>(moe_test::odd_shape());
    const TemporaryDirectory directory;
    moe_test::write_file(directory.file("a"), bytes);
    const auto address = [](const PackedFile& file) { return reinterpret_cast<std::uintptr_t>(file.data().data()); };
    CHECK(address(PackedFile::open(directory.file("a"))) % 4096 == 0);
    CHECK(address(PackedFile::open(directory.file("a"), Verify::all, moe::SerialExecutor{}, ReadMode::read)) %
              moe::buffer_alignment ==
          0);

    const AlignedBytes aligned(bytes);
    const PackedFile file = PackedFile::parse(aligned.span());
    CHECK(file.data().data() == aligned.span().data() + 4096);
    Bytes shifted(bytes.size() + 2 * moe::buffer_alignment);
    const auto begin = reinterpret_cast<std::uintptr_t>(shifted.data());
    const std::size_t offset = moe::buffer_alignment - begin % moe::buffer_alignment + 8;
    std::copy(bytes.begin(), bytes.end(), shifted.begin() + static_cast<std::ptrdiff_t>(offset));
    const PackedFile unaligned = PackedFile::parse(std::span(shifted).subspan(offset, bytes.size()));
    CHECK(error_of([&] { (void)unaligned.experts<float>(moe::AnyForm{}); }).code == ErrorCode::alignment);
}

TEST_CASE("writing fails as a whole: the older file stays, and nothing else", "[io][packed]") {
    const moe_test::LayerCase<float> layer_case(moe_test::odd_shape(), 4);
    const moe::PackedExperts<float, moe::AnyForm> packed(layer_case.bank());
    const TemporaryDirectory directory;
    const auto error = error_of([&] { moe::write_packed(directory.file("none/experts.moe"), packed); });
    CHECK(error.code == ErrorCode::file);
    CHECK_THAT(error.text, contains("none/experts.moe"));
    CHECK(directory.entries() == 0);

    moe::write_packed(directory.file("experts.moe"), packed);
    const PackedFile mapped = PackedFile::open(directory.file("experts.moe"));
    const moe::PackedExperts<moe::Int4, moe::AnyForm> smaller(layer_case.bank());
    moe::write_packed(directory.file("experts.moe"), smaller);
    CHECK(directory.entries() == 1);
    CHECK_NOTHROW(mapped.check_data());  // who mapped the old file keeps it
    CHECK(PackedFile::open(directory.file("experts.moe")).format() == moe::StoredFormat::int4);

    const moe::PackedExperts<float, moe::AnyForm> nobody({}, moe::PackedLayout<float>({8, 8, true}, 0), {});
    CHECK(error_of([&] { moe::write_packed(directory.file("empty.moe"), nobody); }).code == ErrorCode::range);
    CHECK(directory.entries() == 1);
}

}  // namespace moe_test::packed_roundtrip_test
