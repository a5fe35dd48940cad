"""The lookup tables of the IQ and MXFP4 weight formats, as plain bytes.

They are data of the file format: a decoder cannot derive them. Both readers of weights (the WGSL
kernels, which upload them, and the numpy reference of the tests) take them from here. This module
knows nothing about blocks or GPUs. Source of the values: ggml's ``ggml-common.h`` (MIT).

A *grid* is a chosen subset of the points of a small lattice: ``size`` points with ``axes``
coordinates, each coordinate one of a few ``levels``. ggml lists the points in ascending order of
the number whose digits are the level indices, first coordinate least significant; so a grid is
fully described by one bit per lattice point, which is what is stored here (zlib, base 85; 2.7 KB
in all).
"""

from __future__ import annotations

import base64
import zlib
from functools import cache

_IQ2_XXS = (
    b"c-"
    b"nPRORB^$43oj#tB`je2YP^R=KfcCw)5@K5e=lV<VbEmf91ogR%p3E0BR^O#16P=^@J3)+t0mx___f>P^zDolEn6;"
    b"is&dxI!#Zg_{KuzkVd4Mw`?l*l~*(z5~c8Qj-!-"
    b"YZym34v`$TQ4<4*~)dpL;rq|+W4irx`d$&)6^vGb7UkLBrzcFbHqcf>sMFwRxr;MTG;*}m%Qlby-"
    b"@@TSk)X7om@@#uKQIjUUWQ&$2&y}*gX5TV=Bc|Cuh1wL(2Kn3A3Yj<N%;gblzhT7_jxp@MF=lA5st5R^Hl2J=^JV"
    b"`E{Z0D^#$6R7"
)
_IQ2_XS = (
    b"c-mc2TdsvL2pkgnkBRPwCicH3cK=&BJX-bM<{ZTW!^|+oxJIi-qkD|rsuaR~iB<*?x~C4>8J0pJW<V>X*vo#SY&("
    b"-c)w(<-"
    b"fCU6QVt|)*=>oJ=N8h~B3mmYKBw*Y)Ca<s*uvOak7T*la5<g=kAh?T96(5+bR(Mt@J=L5^n!u1sF+~=p=RjVCGbM"
    b"+vDH*59tF!>kC`)-u3GzO}jM8X_r-*1ytubG*&a^iqGs?p-"
    b"do}D8x2NWXU?%O)=7t88q040RdJ=Ak)9T+$YBcFD31^6BC_W+mG1}iEA-T}Oj@u6-"
    b"pQ1yByIl9%`W3mW#F%j~<yh(N0zSL~oH^Zy%}}tQx4=M73#xoc?jNErTmD?iDs40;(&MG>YYMNuDE=SK;cc#9vM%"
    b"q_=>7msuqjC"
)
_IQ2_S = (
    b"c-n1JU5W-F3~NE(E9iYHjPDBe{#V(wI=kPpE5rQ7#3X8F%Z9aF@G^(h-"
    b"0EI3Em0|W3^QwctZ7zp0a8G#rYWS&oF&YfEj@sgh^u5FBBgC>LAkBEEtarKv-"
    b"X}c)kMD5E9g)N*35uFS6j&;COQ!QC2=T0oAzp}=fs8f?3xctXeG?g^dQAA!2(KVP=j1x!<Qgx@l7F)Pu!TMd$m>{"
    b"ZzEray(N$AzRb24)#*U9zYZZF^+2!@EVQ9?ARiEH!J<ErE8usn4?()-"
    b"BQhW*1pE<<S|Z6aT82aQO}QP4+el6zUY~*z7~Sl6pK?p!Q_DMIhH4w7?joIO9P^#Dw9CRS7mu8OBC|vDii4FoWN_"
    b"zK9m?6y$}qXC*pyH_2f!)+bXep&HXz~CYasM7Fd3(JhmM~KIbkHJ7yU4;E692~{FNElHOf~Fzm+TBn!W(JyjC6"
)
_IQ3_XXS = (
    b"c-l=-F%H5o3_M%0RAmZ7_lgPeigaLyA4Q!IuVCbv_?)J2Rn;aw-"
    b"<^~BWtxCXwzFx0%xW)eST<YW5KL&L;j#hAAHoX-"
    b"c)&}FY<X@1m|7IGsjrX>q7@bAuHrcP3L2_`6x)_>^v5;&o?@Fdagv_Uo9H*utGOGEJ93R6P|L2rgx{U}Y-"
    b"UnrS3sKYtPIbF!WdDS7|dsT<9UQCqzhJe8+4kK5km%XvHjm=J(sMgqk-e3v^zjTJayVggoDWMJzTWE4a0T)3l-"
    b"9P!ydlNePrBA?Xny*@kmBo4W|8$?wEo20v5Uy_5"
)
_IQ3_S = (
    b"c-k#d!AiqG5PdVu!e&pqA>uXNMyUCUt<-~hDT4SrX{pfmmf{D9Rs{Q#&TgE;z`Qr}-"
    b"rMBob#A|%IbF{W(Id*&Lkwq!%0~0(%@Ao{OU0lD_x2OXCI^OquXIKLt}o^pYnG?L6&oz+9HeSVPSrN(A}t!YmF^X"
    b"mp*3Qy-5G8(e|b5Y-"
    b"VC?q(AA>+32wuC)HmEXp@c1}PT|h83}iuXSwt^ePGkv?U+Lf3a_=1ov?9@{igP&9v4ypFswx3&TJZ@M2_=SuX>*z"
    b"&qp%+CoXl)ge8!drA@5Agyn!FG+()?*sDei}n1QT95(J|p-"
    b"wR7#Aht{0!Hx!aZfy;cl!bD4D3uqR(zW`GY5;6>@R{_|3X$jRqNR^eu)^e<Ll^vCYlKPU1;QQ+o$IB(hKom+bHx0"
    b"SXmXXwyZnVo8~6jd#wQ>"
)
_IQ1_S = (
    b"c-k#eK}(!R7=CxE;dM-"
    b"9V?RN1diSfb(^(PgE$L;EU0C#DLh=VZ*|bQ>IZZw%yXlwN6ha`hG?#HO$v6$G@ldv(umMk2dT8mb2WdTox*h^v8V"
    b"tnDuD#8?@Vw9Syw7v(LR2?w<}y}3b9YJG^C&5*&qs>Nl?x;NhAB!%0hRecnsm$a2YwJ@;QqccSPG~@n#@N5uBY$^"
    b"gNY22s7}?HYgoxmY#Y+!Ajh1yxWA4l1OzVO1-"
    b"XRyWBes^wA;LAoBq<x!%nuPhFWp9`{&R@7DG%<XIwD^Is3Q$Jf@<B<<hd(0^?jzIHG8vQn*?-"
    b"$Ub(LsHW&@kYNcQ%|}dP%c;av8KJU^mWiJv*28-"
    b"WD<$YEG%#}+D!ES;XeDuFD(VlG#i@A4$V;H%7rH52w&LB_pg1xSvl=L<CZ@9?{WdkSxbxSuMq|l64F4MqT|O(RS}"
    b"O@H(bLXvHn!_OntvSw2GXTKiD_6XGLxujp0!)qyF+V=7Bv?g3oFy??D1-"
    b"6?{(2le%HQrc>Le(m#@Cb_P%)g$;r#{<KcsUbe#9?p_<1{H>jE?+1SCIq;Fwj@yPMjA_U90?}vdY$)D1%>fQq-"
    b"z{36HBT$I&mG*v%J#A~V%aSj@pZtCEAg}V1eou`2@uUxU_YQ=)6;l3U7EjmAKr#y2F0kdO91c}@u6ikZ68>90+)K"
    b"INV7E3oVy0wcNC7Qg*Gnz$6Ckekcj5w;yQl$8BcV}uIeIA*;9XR~L2uzcrHYS+2)y-"
    b"rqrtcg6e{stpn$cM#il(dTBx(R&0u-"
    b";P1DmAvG}u@dX;b%ns9v~6p49X^c}lqEMlIFjzJBbrp$X4T{{D_p5YV7e^~xM<^E7<_56qcAaL=FI+lT|4v2#Y&d"
    b"pW2-Egd@Fdf5G@Dheeu*|v(bMFD;1sQ1"
)

_LEVELS_IQ2 = (8, 25, 43)
_LEVELS_IQ3_XXS = (4, 12, 20, 28, 36, 44, 52, 62)
_LEVELS_IQ3_S = (1, 3, 5, 7, 9, 11, 13, 15)
_LEVELS_IQ1 = (-1, 0, 1)


def _decode(packed: bytes, levels: tuple[int, ...], axes: int) -> bytes:
    """Return the points whose bit is set, one byte per coordinate, in ascending order."""
    digits = [level & 0xFF for level in levels]
    base = len(digits)
    bitmap = zlib.decompress(base64.b85decode(packed))
    points = bytearray()
    for byte_index, byte in enumerate(bitmap):
        while byte:
            lowest = byte & -byte
            byte ^= lowest
            code = byte_index * 8 + lowest.bit_length() - 1
            for _ in range(axes):
                code, digit = divmod(code, base)
                points.append(digits[digit])
    return bytes(points)


@cache
def iq2xxs_grid() -> bytes:
    """``uint8[256, 8]``: magnitudes of IQ2_XXS."""
    return _decode(_IQ2_XXS, _LEVELS_IQ2, 8)


@cache
def iq2xs_grid() -> bytes:
    """``uint8[512, 8]``: magnitudes of IQ2_XS."""
    return _decode(_IQ2_XS, _LEVELS_IQ2, 8)


@cache
def iq2s_grid() -> bytes:
    """``uint8[1024, 8]``: magnitudes of IQ2_S."""
    return _decode(_IQ2_S, _LEVELS_IQ2, 8)


@cache
def iq3xxs_grid() -> bytes:
    """``uint8[256, 4]``: magnitudes of IQ3_XXS."""
    return _decode(_IQ3_XXS, _LEVELS_IQ3_XXS, 4)


@cache
def iq3s_grid() -> bytes:
    """``uint8[512, 4]``: magnitudes of IQ3_S."""
    return _decode(_IQ3_S, _LEVELS_IQ3_S, 4)


@cache
def iq1s_grid() -> bytes:
    """``int8[2048, 8]``: values -1, 0, 1 of IQ1_S and IQ1_M, two's complement."""
    return _decode(_IQ1_S, _LEVELS_IQ1, 8)


@cache
def iq2_signs() -> bytes:
    """``uint8[128]``: seven stored sign bits -> eight, so that the number of minus signs is even.

    Used by IQ2_XXS, IQ2_XS and IQ3_XXS (ggml's ``ksigns_iq2xs``); bit ``i`` set means weight ``i``
    is negative.
    """
    return bytes(index | (index.bit_count() & 1) << 7 for index in range(128))


IQ4_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""The sixteen levels of IQ4_NL and IQ4_XS."""

MXFP4_VALUES = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
"""The sixteen E2M1 levels of MXFP4, doubled so that they are integers (OCP Microscaling v1.0)."""
