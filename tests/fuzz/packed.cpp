#include <moe/core/workspace.hpp>
#include <moe/experts/activation.hpp>
#include <moe/experts/form.hpp>
#include <moe/io/packed_file.hpp>

#include <cstdint>
#include <vector>

#include "fuzz/support.hpp"

// A header of 4096 bytes under a checksum is nothing that a fuzzer finds. An input is read as a file, and then as what
// of a file is not zero: the first 80 bytes of the header, whose checksums are put right, and the data (of version 2
// behind 2 MB of nothing), of which a few thousand bytes may be missing at the end.

namespace {

using moe::PackedFile;
using moe::detail::PackedHeader;
using namespace moe_test::fuzz;

constexpr std::size_t data_checksum_at = PackedHeader::checksum_at - 8;
constexpr std::size_t data_bytes_at = data_checksum_at - 8;
constexpr std::size_t most_missing = 8192;

/// The file that `input` stands for. A checksum of the data that is not 0 is left as it is.
std::vector<std::byte> sealed(Input input) {
    std::vector<std::byte> file(PackedHeader::bytes);
    const std::size_t n = (std::min)(input.size(), PackedHeader::end);
    std::copy_n(input.begin(), n, file.begin());
    PackedHeader versioned;
    versioned.version = moe::detail::get_little_endian<std::uint32_t>(file.data() + PackedHeader::version_at);
    file.resize(versioned.data_at());
    file.insert(file.end(), input.begin() + static_cast<std::ptrdiff_t>(n), input.end());
    const auto announced = moe::detail::get_little_endian<std::uint64_t>(file.data() + data_bytes_at);
    const std::size_t present = file.size() - versioned.data_at();
    if (announced > present && announced - present <= most_missing) {
        file.resize(versioned.data_at() + static_cast<std::size_t>(announced));
    }
    const std::span<const std::byte> contents = file;
    if (moe::detail::get_little_endian<std::uint64_t>(file.data() + data_checksum_at) == 0) {
        moe::detail::put_little_endian(
            moe::detail::checksum(contents.subspan(versioned.data_at()), moe::SerialExecutor{}),
            file.data() + data_checksum_at);
    }
    moe::detail::PackedHeaderBytes header;
    std::copy_n(file.begin(), header.size(), header.begin());
    moe::detail::put_little_endian(moe::detail::header_checksum(header), file.data() + PackedHeader::checksum_at);
    return file;
}

template <class F, class Form>
void check_experts(const PackedFile& file, Form form) {
    const auto experts = file.experts<F>(form);
    confirm(
        experts.n_experts() == file.n_experts() && experts.d_model() == file.d_model() && experts.d_ff() == file.d_ff(),
        "experts have the sizes of their file");
    confirm(experts.data().data() == file.data().data() && experts.data().size() == file.data().size(),
            "experts lie in their file");
}

void check_file(const PackedFile& file) {
    moe::visit_stored_format(file.format(), [&]<class F>() {
        if (file.gated()) {
            check_experts<F>(file, moe::Gated<moe::Silu>{});
        } else {
            check_experts<F>(file, moe::Plain<moe::Gelu>{});
        }
        confirm(!accepted([&] {
            if (file.gated()) {
                check_experts<F>(file, moe::Plain<moe::Gelu>{});
            } else {
                check_experts<F>(file, moe::Gated<moe::Silu>{});
            }
        }),
                "gated experts are no plain ones");
    });
}

void check(Input bytes) {
    // aligned as experts have to be; sanitizers see a step behind the end of `bytes` itself
    moe::AlignedBuffer buffer(bytes.size());
    std::copy(bytes.begin(), bytes.end(), buffer.data());
    const Input aligned(buffer.data(), bytes.size());
    const bool opens = accepted([&] { (void)PackedFile::parse(bytes, moe::Verify::header); });
    const bool whole = accepted([&] { (void)PackedFile::parse(bytes); });
    confirm(opens || !whole, "what is wholly right has a right header");
    if (!opens) {
        return;
    }
    taken = true;
    const PackedFile file = PackedFile::parse(aligned, moe::Verify::header);
    const std::string context = "fuzz";
    const PackedHeader read = moe::detail::PackedHeaderParser(aligned, context).parse();
    confirm(read.data_at() + file.data().size() == aligned.size() && lies_in(file.data(), aligned),
            "the data are the file but for what is before them");
    const auto header = moe::detail::packed_header_bytes(read);
    confirm(same_bits<std::byte>(header, aligned.first(header.size())), "a header written is the header read");
    confirm(accepted([&] { file.check_data(); }) == whole, "data are checked at once or later");
    check_file(file);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Input input = input_of(data, size);
    check(input);
    check(sealed(input));
    return 0;
}
