#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "../core/borrowed.hpp"
#include "../core/error.hpp"
#include "expert_ranges.hpp"
#include "file_bytes.hpp"
#include "packed_bytes.hpp"
#include "packed_header.hpp"
#include "replaced_file.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI {

/// How much of a file of packed experts is checked when it is opened.
enum class Verify {
    /// Header and data: every byte is read once. A change within one aligned word of 8 bytes is always found, any other
    /// missed with probability 2^-64 (io/checksum.hpp); it is no protection against forgery.
    all,
    /// The header: costs the same for any size, and a file just written by this machine starts at once. Damaged data
    /// become wrong numbers, never an access out of bounds.
    header,
};

/// Experts packed once and kept in a file, so that a program starts without packing: write_packed() makes it, open()
/// maps it, experts() are PackedExperts whose weights lie in the mapping. The data are the same for every processor
/// with the same byte order, whatever its instruction set. One file holds one bank; see detail::PackedHeader for its
/// layout.
///
/// Whatever the bytes are, opening either succeeds or throws one Error that names the file and the offending values:
///
/// | ErrorCode    | the file                                                                                    |
/// |--------------|---------------------------------------------------------------------------------------------|
/// | file         | cannot be opened, read or mapped, or is no regular file                                     |
/// | header       | does not begin with the magic; has another byte order mark than the two there are; has      |
/// |              | bytes other than 0 where nothing is defined                                                 |
/// | truncated    | ends within its header, before its data or within them                                     |
/// | format       | has another version, byte order, width of a panel or size of a group than this library      |
/// | checksum     | has a header or (Verify::all) data other than were written                                  |
/// | unknown_type | has a format that StoredFormat does not list                                                |
/// | range        | has a size of 0, or a gated flag that is neither 0 nor 1                                    |
/// | layout       | has more bytes than it announces, or sizes that need another number of bytes                |
///
/// All const members may be called from several threads.
class PackedFile {
public:
    /// Opens the file `path`; see Verify and ReadMode for what is checked and how it comes into memory. `executor`
    /// works on the checksum of the data.
    template <Executor E = SerialExecutor>
    [[nodiscard]] static PackedFile open(const std::string& path, Verify verify = Verify::all, const E& executor = {},
                                         ReadMode mode = ReadMode::map) {
        FileBytes file = FileBytes::open(path, mode);
        PackedFile result("packed file " + detail::path_in_quotes(path), file.bytes());
        result.file_ = std::move(file);
        result.confirm(verify, executor);
        return result;
    }

    /// Reads a file already in memory. `bytes`, aligned to buffer_alignment, must outlive the result and the experts
    /// made from it; nothing is copied.
    template <Executor E = SerialExecutor>
    [[nodiscard]] static PackedFile parse(Borrowed<const std::byte> bytes, Verify verify = Verify::all,
                                          const E& executor = {}) {
        PackedFile result("packed bytes", bytes);
        result.confirm(verify, executor);
        return result;
    }

    [[nodiscard]] StoredFormat format() const noexcept { return static_cast<StoredFormat>(header_.format); }
    [[nodiscard]] std::size_t n_experts() const noexcept { return static_cast<std::size_t>(header_.n_experts); }
    [[nodiscard]] std::size_t d_model() const noexcept { return static_cast<std::size_t>(header_.d_model); }
    [[nodiscard]] std::size_t d_ff() const noexcept { return static_cast<std::size_t>(header_.d_ff); }
    [[nodiscard]] bool gated() const noexcept { return header_.gated == 1; }
    /// How the experts lie in it.
    [[nodiscard]] PackedOrder order() const noexcept { return header_.order(); }
    /// The packed weights, as PackedExperts::data() has them.
    [[nodiscard]] std::span<const std::byte> data() const& noexcept { return data_; }
    std::span<const std::byte> data() const&& = delete;  // temporary: give the file a name

    /// Throws Error(checksum) unless the data are those that were written, Error(header) where bytes before them are
    /// not 0. What Verify::all does, for a file opened
    /// with Verify::header, at a time of the caller's choice.
    template <Executor E = SerialExecutor>
    void check_data(const E& executor = {}) const {
        const std::span<const std::byte> before = before_data_;  // all 0 if each is the one before it
        ensure(before.empty() ||
                   (before[0] == std::byte{0} && std::memcmp(before.data(), before.data() + 1, before.size() - 1) == 0),
               ErrorCode::header, context_, ": bytes ", detail::PackedHeader::bytes, " to ", header_.data_at(),
               ", before its data, are not all 0");
        const std::uint64_t found = detail::checksum(data_, executor);
        ensure(found == header_.data_checksum, ErrorCode::checksum, context_,
               ": its data are damaged: the checksum in the header is ", header_.data_checksum, ", that of the data ",
               found);
    }

    /// The experts in the file, of format F and the form they were packed with, which the file does not know but for
    /// gated or plain. Their weights lie in the file's memory: this object, or one it was moved into, must outlive
    /// them. Costs nothing. Throws Error(format) naming both formats, or both kinds of form; Error(range) for a form
    /// that cannot be and a compute the format has not; Error(alignment) for bytes of the caller that are not aligned.
    template <PackedFormat F, ExpertForm Form>
    [[nodiscard]] PackedExperts<F, Form> experts(Form form, Compute compute = Compute::by_format) const& {
        visit_stored_format(format(), [this]<class Stored>() {
            ensure(std::is_same_v<F, Stored>, ErrorCode::format, context_, ": it holds ", format_name<Stored>(),
                   " experts, asked for are ", format_name<F>());
        });
        ensure(form.gated() == gated(), ErrorCode::format, context_, ": it holds ", gated() ? "gated" : "plain",
               " experts, the form given is ", form.gated() ? "gated" : "plain");
        moe::validate_form(form);
        return {std::move(form), detail::stored_layout<F>(header_), data_, compute};
    }
    template <PackedFormat F, ExpertForm Form>
    PackedExperts<F, Form> experts(Form, Compute = {}) const&& = delete;  // temporary: give the file a name

    /// Where each expert lies in the file's memory, for an ExpertResidency: one range where experts lie apart, else
    /// two.
    [[nodiscard]] ExpertRanges expert_ranges() const& {
        ExpertRanges ranges(n_experts());
        visit_stored_format(format(), [&]<class F>() {
            const PackedLayout<F> layout = detail::stored_layout<F>(header_);
            for (std::size_t e = 0; e < n_experts(); ++e) {
                ranges.add(e, data_.subspan(layout.hidden_panel(e, 0), layout.weight_bytes()));
                ranges.add(e, data_.subspan(layout.hidden_bias(e, 0), layout.bias_bytes()));
            }
        });
        return ranges;
    }
    ExpertRanges expert_ranges() const&& = delete;  // temporary: give the file a name

private:
    PackedFile(std::string context, std::span<const std::byte> bytes)
        : context_(std::move(context)),
          header_(detail::PackedHeaderParser(bytes, context_).parse()),
          before_data_(bytes.first(header_.data_at()).subspan(detail::PackedHeader::bytes)),
          data_(bytes.subspan(header_.data_at())) {}

    template <Executor E>
    void confirm(Verify wanted, const E& executor) const {
        if (wanted == Verify::all) {
            check_data(executor);
        }
    }

    std::string context_;  // what messages call the file
    FileBytes file_;       // empty when the bytes are the caller's
    detail::PackedHeader header_;
    std::span<const std::byte> before_data_;  // from the header on
    std::span<const std::byte> data_;
};

/// Writes `packed` to a file for PackedFile, all or nothing as write_safetensors does it, in one order of experts or
/// the other, whichever they have in memory: PackedOrder::apart for more experts than memory, see ExpertResidency.
/// `executor` works on the checksum. Throws Error(file), and Error(range) for a bank of no experts or an order that is
/// none.
template <PackedFormat F, ExpertForm Form, Executor E = SerialExecutor>
void write_packed(const std::string& path, const PackedExperts<F, Form>& packed, const E& executor = {},
                  PackedOrder order = PackedOrder::together) {
    ensure(packed.n_experts() > 0, ErrorCode::range, "write_packed: a bank of 0 experts");
    ensure(order <= PackedOrder::apart, ErrorCode::range, "write_packed: PackedOrder has no value ",
           static_cast<int>(order));
    const detail::PackedBytes<F> data(packed.data(), packed.packed_layout(), order);
    detail::PackedHeader header;
    header.version = order == PackedOrder::apart ? detail::PackedHeader::of_apart : detail::PackedHeader::of_together;
    header.format = static_cast<std::uint32_t>(stored_format<F>);
    header.panel_width = detail::stored_panel_width<F>;
    header.group = detail::stored_group<F>;
    header.gated = packed.form().gated() ? 1 : 0;
    header.d_model = packed.d_model();
    header.d_ff = packed.d_ff();
    header.n_experts = packed.n_experts();
    header.data_bytes = data.size();
    header.data_checksum = data.checksum(executor);
    detail::ReplacedFile file(path);
    file.write(detail::packed_header_bytes(header));
    file.skip(header.data_at() - detail::PackedHeader::bytes);
    data.write_to(file);
    file.commit();
}

}  // namespace moe::inline MOE_ABI
