#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "../../config.hpp"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__x86_64__) &&                \
    defined(__linux__)
#define MOE_MATRIX_UNIT 1
#include <sys/syscall.h>
#include <unistd.h>

#include "intrinsics.hpp"
#else
#define MOE_MATRIX_UNIT 0
#endif

namespace moe::inline MOE_ABI::arch {

/// The matrix unit of newer Xeons (AMX): products of tiles of bfloat16 summed in float32. See
/// kernels/unit_product.hpp.
struct MatrixUnit {
    static constexpr bool present = MOE_MATRIX_UNIT != 0;
    static constexpr std::size_t rows = 16;         ///< rows of a tile of activations, at most
    static constexpr std::size_t depth = 32;        ///< values of k of a tile
    static constexpr std::size_t row_bytes = 64;    ///< `depth` bfloat16
    static constexpr std::size_t pair_bytes = 256;  ///< 64 outputs of two neighbouring values of k

    /// Asks the system to let this process use the unit: Linux keeps the large state of the tiles only for processes
    /// that ask. Whether it may; any thread may ask any number of times.
    [[nodiscard]] static bool request() noexcept {
#if MOE_MATRIX_UNIT
        constexpr long request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
        constexpr long tile_data = 18;               // XFEATURE_XTILE_DATA
        return ::syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
        return false;
#endif
    }

#if MOE_MATRIX_UNIT
    /// The unit, set up for tiles of `n_rows` rows by the calling thread, which gives it back in the end. Tiles 0 to 3
    /// hold sums, 4 and 5 activations, 6 and 7 weights.
    class Session {
    public:
        explicit Session(std::size_t n_rows) noexcept {
            struct Configuration {
                std::uint8_t palette = 1;
                std::uint8_t start_row = 0;
                std::array<std::uint8_t, 14> reserved{};
                std::array<std::uint16_t, 16> row_bytes{};
                std::array<std::uint8_t, 16> rows{};
            };
            static_assert(sizeof(Configuration) == 64);
            alignas(64) Configuration tiles;
            for (std::size_t i = 0; i < 8; ++i) {
                tiles.row_bytes[i] = row_bytes;
                tiles.rows[i] = static_cast<std::uint8_t>(i < 6 ? n_rows : rows);
            }
            // g++ 12 believes that _tile_loadconfig reads 8 bytes and leaves out stores of others, the zeros of tiles
            // that are not there among them, which faults when the stack has something else
            asm volatile("" : "+m"(tiles) : : "memory");
            _tile_loadconfig(&tiles);
        }
        Session(const Session&) = delete;
        Session& operator=(const Session&) = delete;
        ~Session() { _tile_release(); }
    };

    /// Sets the sums of 64 outputs to zero.
    static MOE_ALWAYS_INLINE void clear() noexcept {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }

    /// Adds a tile of activations at `a` (rows `stride` bytes apart) times 32 values of k of 64 outputs at `b` (pairs
    /// of k by output).
    static MOE_ALWAYS_INLINE void multiply(const std::byte* a, std::size_t stride, const std::byte* b) noexcept {
        _tile_loadd(4, a, stride);
        _tile_loadd(6, b, pair_bytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + row_bytes, pair_bytes);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(6, b + 2 * row_bytes, pair_bytes);
        _tile_dpbf16ps(2, 4, 6);
        _tile_loadd(7, b + 3 * row_bytes, pair_bytes);
        _tile_dpbf16ps(3, 4, 7);
    }

    /// Products of tiles in multiply_three().
    static constexpr std::size_t products_of_three = 12;

    /// Adds three tiles of activations, which follow one another at `a` (rows of 64 bytes, 16 to a tile), times 32
    /// values of k of 64 outputs at `b` (pairs of k by output). Calls between() after each product. Two columns of
    /// tiles take turns: a sum is not ready to be added to at once. Tried: one column after the other (8 % slower),
    /// each activation with four columns, whose weights are then loaded three times (8 %).
    template <class Between>
    static MOE_ALWAYS_INLINE void multiply_three(const std::byte* a, const std::byte* b, Between&& between) noexcept {
        constexpr std::size_t tile = rows * row_bytes;
        _tile_loadd(4, a, row_bytes);
        _tile_loadd(5, a + tile, row_bytes);
        _tile_loadd(6, b, pair_bytes);
        _tile_loadd(7, b + row_bytes, pair_bytes);
        _tile_dpbf16ps(0, 4, 6);
        between();
        _tile_dpbf16ps(1, 4, 7);
        between();
        _tile_dpbf16ps(0, 5, 6);
        between();
        _tile_dpbf16ps(1, 5, 7);
        between();
        _tile_loadd(4, a + 2 * tile, row_bytes);
        _tile_dpbf16ps(0, 4, 6);
        between();
        _tile_dpbf16ps(1, 4, 7);
        between();
        _tile_loadd(6, b + 2 * row_bytes, pair_bytes);
        _tile_loadd(7, b + 3 * row_bytes, pair_bytes);
        _tile_dpbf16ps(2, 4, 6);
        between();
        _tile_dpbf16ps(3, 4, 7);
        between();
        _tile_dpbf16ps(2, 5, 6);
        between();
        _tile_dpbf16ps(3, 5, 7);
        between();
        _tile_loadd(4, a, row_bytes);
        _tile_dpbf16ps(2, 4, 6);
        between();
        _tile_dpbf16ps(3, 4, 7);
        between();
    }

    /// Bytes from one row of sums of 64 outputs to the next.
    static constexpr std::size_t sum_stride = 4 * row_bytes;

    /// Continues sums of 64 outputs, (n_rows, 64).
    static MOE_ALWAYS_INLINE void load(const float* sums) noexcept {
        _tile_loadd(0, sums, sum_stride);
        _tile_loadd(1, sums + 16, sum_stride);
        _tile_loadd(2, sums + 32, sum_stride);
        _tile_loadd(3, sums + 48, sum_stride);
    }

    /// The sums of 64 outputs, (n_rows, 64).
    static MOE_ALWAYS_INLINE void store(float* target) noexcept {
        _tile_stored(0, target, sum_stride);
        _tile_stored(1, target + 16, sum_stride);
        _tile_stored(2, target + 32, sum_stride);
        _tile_stored(3, target + 48, sum_stride);
    }
#endif
};

#if MOE_MATRIX_UNIT
/// While it lives, vectors take numbers below 2^-126 for zero, in operands and results, as the matrix unit does.
class FlushDenormals {
public:
    FlushDenormals() noexcept : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040U); }
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;
    ~FlushDenormals() { _mm_setcsr(before_); }

private:
    unsigned before_;
};
#endif

}  // namespace moe::inline MOE_ABI::arch
